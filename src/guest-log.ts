// Lines of the log that a guest can cause: of each kind a few, then their number.
import type { Logger } from './logger.js';

type Level = keyof Logger;
/** What belongs to a line besides its guest. */
export type LogFields = Readonly<Record<string, unknown>>;

/** How many lines of a kind are written at once, and after how many milliseconds one more may be. */
export interface LogRate {
  readonly burst: number;
  readonly interval: number;
}

const DEFAULT_RATE: LogRate = { burst: 5, interval: 60_000 };

/** Lines of one kind: a token for each that may be written. */
interface Bucket {
  tokens: number;
  /** When {@link tokens} was right, in milliseconds. */
  at: number;
  /** Lines that were not written since the last one that was. */
  unwritten: number;
  timer: NodeJS.Timeout | undefined;
}

/**
 * The log of one guest. What a guest can repeat as often as it likes goes through it: lines of the same level and message are one kind, so
 * messages are constants, and details are fields.
 */
export class GuestLog {
  private readonly buckets = new Map<string, Bucket>();

  constructor(
    private readonly log: Logger,
    private readonly guest: string,
    private readonly rate: LogRate = DEFAULT_RATE,
  ) {}

  error(message: string, fields: LogFields = {}): void {
    this.write('error', message, fields);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.write('warn', message, fields);
  }

  info(message: string, fields: LogFields = {}): void {
    this.write('info', message, fields);
  }

  /** Tells how many lines were not written. The object may be used again. */
  close(): void {
    for (const [kind, bucket] of this.buckets) {
      clearTimeout(bucket.timer);
      this.tellUnwritten(kind, bucket);
    }
    this.buckets.clear();
  }

  private write(level: Level, message: string, fields: LogFields): void {
    const kind = `${level} ${message}`;
    const bucket = this.filled(kind);
    if (bucket.tokens < 1) {
      bucket.unwritten += 1;
      bucket.timer ??= setTimeout(() => {
        bucket.timer = undefined;
        this.tellUnwritten(kind, bucket);
      }, this.rate.interval).unref();
      return;
    }
    this.tellUnwritten(kind, bucket);
    bucket.tokens -= 1;
    this.log[level](message, { guest: this.guest, ...fields });
  }

  private filled(kind: string): Bucket {
    const { burst, interval } = this.rate;
    const now = performance.now();
    const bucket = this.buckets.get(kind) ?? { tokens: burst, at: now, unwritten: 0, timer: undefined };
    bucket.tokens = Math.min(burst, bucket.tokens + (now - bucket.at) / interval);
    bucket.at = now;
    this.buckets.set(kind, bucket);
    return bucket;
  }

  private tellUnwritten(kind: string, bucket: Bucket): void {
    const { unwritten } = bucket;
    if (unwritten === 0) return;
    bucket.unwritten = 0;
    const space = kind.indexOf(' ');
    this.log[kind.slice(0, space) as Level](`${kind.slice(space + 1)}: ${unwritten.toString()} more like it`, { guest: this.guest });
  }
}
