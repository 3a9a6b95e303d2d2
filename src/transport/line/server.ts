// Serves TPM commands on one line for as long as the guest runs: opens it, answers, and opens it again when it went away.
import { setTimeout as delay } from 'node:timers/promises';
import { reasonOf } from '../../failure.js';
import type { GuestLink } from '../guest-link.js';
import type { Line, LineKind, LinePlace } from './line.js';
import { expireLine, feedLine, LINE_GAP_MS, quietLine, touchLine, type LineState, type LineStep } from './resync.js';

/** How it stands with a line. */
export interface LineView {
  readonly kind: LineKind;
  readonly path: string;
  readonly open: boolean;
  /** Why it is not open, or what is wrong with it; null if nothing is, or it was not tried yet. */
  readonly reason: string | null;
}

const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 2_000;
/** A terminal that echoes gives answers back in the order in which they came. */
const REMEMBERED_ANSWERS = 4;

/** Serves one line. */
export class LineServer {
  private readonly end = new AbortController();
  private readonly done: Promise<void>;
  private line: Line | undefined;
  private busy = false;
  private reason: string | null = null;
  private answers: Buffer[] = [];

  /** `onChange` is told each time that the line opens, goes away, or cannot be opened for another reason than before. */
  constructor(
    private readonly place: LinePlace,
    private readonly link: GuestLink,
    private readonly onChange: (view: LineView) => void,
  ) {
    this.done = this.run().catch((error: unknown) => {
      this.link.onDefect(error);
    });
  }

  view(): LineView {
    const { kind, path } = this.place;
    return { kind, path, open: this.line !== undefined, reason: this.reason };
  }

  /** Lets the command that runs end, sends its answer, at the latest after `grace` milliseconds; then closes the line. */
  async close(grace: number): Promise<void> {
    this.end.abort();
    if (!this.busy) await this.line?.close();
    const timer = setTimeout(() => void this.line?.close(), grace);
    await Promise.race([this.done, delay(grace + 100, undefined, { ref: false })]);
    clearTimeout(timer);
  }

  private closing(): boolean {
    return this.end.signal.aborted;
  }

  private async run(): Promise<void> {
    let retry = FIRST_RETRY_MS;
    while (!this.closing()) {
      const line = await this.open();
      if (line !== undefined) {
        const served = await this.serve(line).finally(() => line.close());
        // A line that is there and at once gone again is not tried without a pause.
        if (served) retry = FIRST_RETRY_MS;
        this.line = undefined;
        if (!this.closing()) this.note('the other side is gone');
      }
      if (!this.closing()) await delay(retry, undefined, { signal: this.end.signal, ref: false }).catch(() => undefined);
      retry = Math.min(retry * 2, MAX_RETRY_MS);
    }
  }

  private async open(): Promise<Line | undefined> {
    try {
      const line = await this.place.open();
      if (this.closing()) {
        await line.close();
        return undefined;
      }
      this.line = line;
      this.note(null);
      return line;
    } catch (error) {
      this.note(reasonOf(error));
      return undefined;
    }
  }

  private note(reason: string | null): void {
    if (reason !== null && this.reason === reason) return;
    this.reason = reason;
    this.onChange(this.view());
  }

  /** Serves until the line ends; whether anything came. */
  private async serve(line: Line): Promise<boolean> {
    let state: LineState = quietLine;
    let reading = line.read();
    let served = false;
    this.answers = [];
    for (;;) {
      const input = await (state.bytes.length > 0 ? orSilence(reading, state.since + LINE_GAP_MS - performance.now()) : reading);
      if (input === undefined || this.closing()) return served;
      served = true;
      const step = input === 'silence' ? expireLine(state, performance.now()) : feedLine(state, input, performance.now());
      if (!(await this.answer(line, step)) || this.closing()) return served;
      state = step.frames.length > 0 ? touchLine(step.state, performance.now()) : step.state;
      if (input !== 'silence') reading = line.read();
    }
  }

  /** False when the line cannot be used any more. */
  private async answer(line: Line, { frames, noise }: LineStep): Promise<boolean> {
    if (noise > 0) this.link.onRejection('line_noise');
    this.busy = true;
    try {
      for (const frame of frames) {
        if (this.isEcho(frame)) {
          this.link.onRejection('line_echo');
          this.note("the guest's terminal sends answers back: it is not raw (stty raw -echo)");
          continue;
        }
        const response = await this.link.tpm.execute(frame, this.link.locality);
        if (!(await this.send(line, response))) return false;
        if (this.closing()) return false;
      }
      return true;
    } finally {
      this.busy = false;
    }
  }

  /** An answer of ours that comes back from a terminal that is not raw: executing it would make another answer, and so on. */
  private isEcho(frame: Buffer): boolean {
    return this.answers.some((answer) => answer.equals(frame));
  }

  private async send(line: Line, response: Buffer): Promise<boolean> {
    this.answers = [...this.answers, response].slice(-REMEMBERED_ANSWERS);
    const stalled = setTimeout(() => {
      this.link.onRejection('unread_response');
      // Opening it again throws away what nobody read.
      void line.close();
    }, this.link.limits.unreadResponseTimeout);
    try {
      await line.write(response);
      return true;
    } catch {
      return false;
    } finally {
      clearTimeout(stalled);
    }
  }
}

/** What is read, or `silence` if nothing comes for about this time: a timer may run out a little early. */
function orSilence(reading: Promise<Buffer | undefined>, milliseconds: number): Promise<Buffer | undefined | 'silence'> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      resolve('silence');
    }, milliseconds);
    reading.then(resolve, reject).finally(() => {
      clearTimeout(timer);
    });
  });
}
