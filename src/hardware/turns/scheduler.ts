// Who may use the chip next. The chip is serial: one job at a time.
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import type { Account } from './usage.js';

/** Decides in which order jobs get the chip. */
export interface ChipScheduler {
  /**
   * Runs `job` when its turn comes; nothing else uses the chip meanwhile, so that loading a key and using it is one job.
   * A job does not call `run`. Rejects with `TPM_RC_RETRY` when too many jobs wait; otherwise with what the job rejects with.
   */
  run<T>(account: Account, job: () => Promise<T>): Promise<T>;
  /** Jobs that wait or run. */
  readonly pending: number;
}

/** First come, first served. */
export class FifoScheduler implements ChipScheduler {
  private readonly limit: number;
  private last: Promise<unknown> = Promise.resolve();
  private count = 0;

  /** @param limit most jobs that may wait or run */
  constructor(limit = 256) {
    this.limit = limit;
  }

  get pending(): number {
    return this.count;
  }

  run<T>(_account: Account, job: () => Promise<T>): Promise<T> {
    if (this.count >= this.limit) return Promise.reject(new TpmError(TPM_RC.RETRY));
    this.count++;
    const result = this.last.then(job).finally(() => {
      this.count--;
    });
    this.last = result.catch(() => undefined);
    return result;
  }
}
