// Who may use the chip next. The chip is serial: one job at a time.
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import type { Account } from '../chip/usage.js';

/** What sort of work a turn is for: using a key, making one, or what tpmux does for the host. */
export type TurnKind = 'use' | 'create' | 'host';

/** All that a scheduler knows of a job. */
export interface TurnRequest {
  /** Whose it is, and who pays. */
  readonly guest: Account;
  readonly kind: TurnKind;
  /** `id` of the key that it needs in the chip, if it needs one. */
  readonly key?: string | undefined;
  /** Aborted when nobody waits for it any more. */
  readonly signal?: AbortSignal | undefined;
  /**
   * False if the job must not be executed twice; it is then repeated after a restart of the chip only if the chip cannot have executed
   * the command that failed.
   */
  readonly repeatable?: boolean | undefined;
}

/** Decides in which order jobs get the chip. */
export interface ChipScheduler {
  /**
   * Runs `job` when its turn comes; nothing else uses the chip meanwhile, so that loading a key and using it is one job.
   * A job does not call `run`. Rejects with `TPM_RC_RETRY` when too many jobs wait; with `TPM_RC_CANCELED`, without running it, if
   * its signal is aborted while it waits; otherwise with what the job rejects with.
   */
  run<T>(request: TurnRequest, job: () => Promise<T>): Promise<T>;
  /** Jobs that wait or run. */
  readonly pending: number;
}

/** First come, first served. */
export class FifoScheduler implements ChipScheduler {
  private readonly waiting = new Set<() => Promise<void>>();
  private serving = false;
  private running = 0;

  /** @param limit most jobs that may wait or run */
  constructor(private readonly limit = 256) {}

  get pending(): number {
    return this.waiting.size + this.running;
  }

  run<T>({ signal }: TurnRequest, job: () => Promise<T>): Promise<T> {
    if (signal?.aborted === true) return Promise.reject(new TpmError(TPM_RC.CANCELED));
    if (this.pending >= this.limit) return Promise.reject(new TpmError(TPM_RC.RETRY));
    return new Promise<T>((resolve, reject) => {
      const withdraw = (): void => {
        if (this.waiting.delete(start)) reject(new TpmError(TPM_RC.CANCELED));
      };
      const start = async (): Promise<void> => {
        signal?.removeEventListener('abort', withdraw);
        const running = job();
        await running.catch(() => undefined);
        this.running = 0;
        resolve(running);
      };
      signal?.addEventListener('abort', withdraw, { once: true });
      this.waiting.add(start);
      if (!this.serving) void this.serve();
    });
  }

  /** Runs what waits until nothing does; also what comes meanwhile. Never rejects. */
  private async serve(): Promise<void> {
    this.serving = true;
    // Who just asked goes on first, so that all who ask at once are in the queue before the first runs.
    await Promise.resolve();
    for (let next = this.first(); next !== undefined; next = this.first()) {
      this.running = 1;
      await next();
    }
    this.serving = false;
  }

  private first(): (() => Promise<void>) | undefined {
    const [next] = this.waiting;
    if (next !== undefined) this.waiting.delete(next);
    return next;
  }
}
