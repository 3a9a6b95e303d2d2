// One job of the chip: several commands that nothing comes between.
import type { Account } from './usage.js';
import type { Chip } from '../chip/chip.js';
import { TPM_RC } from '../../tpm/response-code.js';
import { ChipError, ChipRestarted } from '../chip/errors.js';
import type { ChipScheduler } from './scheduler.js';
import type { SlotCache } from './slots.js';

/** The chip as those see it who take turns on it. */
export class ChipJobs {
  readonly chip: Chip;
  readonly slots: SlotCache;
  readonly scheduler: ChipScheduler;

  constructor(chip: Chip, slots: SlotCache, scheduler: ChipScheduler) {
    this.chip = chip;
    this.slots = slots;
    this.scheduler = scheduler;
  }

  /**
   * Runs `job` when it is its turn, and once more from its beginning if the chip was restarted meanwhile.
   * @param repeatable false if the job must not be executed twice; it is then repeated only if the chip cannot have executed
   *   the command that failed
   */
  run<T>(account: Account, job: () => Promise<T>, repeatable = true): Promise<T> {
    return this.scheduler.run(account, async () => {
      try {
        return await this.attempt(account, job);
      } catch (error) {
        if (!(error instanceof ChipRestarted) || (error.maybeExecuted && !repeatable)) throw error;
        return await this.attempt(account, job);
      }
    });
  }

  /** Runs `job`; if it fails as it does in a chip that was cleared or has failed, finds out whether that is so. */
  private async attempt<T>(account: Account, job: () => Promise<T>): Promise<T> {
    try {
      return await job();
    } catch (error) {
      if (error instanceof ChipError && isSuspicious(error)) await this.chip.examine(account);
      throw error;
    }
  }
}

const SUSPICIOUS: ReadonlySet<number> = new Set([
  TPM_RC.HANDLE,
  TPM_RC.INTEGRITY,
  TPM_RC.FAILURE,
  TPM_RC.HIERARCHY,
  TPM_RC.BAD_AUTH,
  TPM_RC.AUTH_FAIL,
  TPM_RC.VALUE,
]);

function isSuspicious({ base, code }: ChipError): boolean {
  return SUSPICIOUS.has(base) || (code >= TPM_RC.REFERENCE_H0 && code < TPM_RC.REFERENCE_S0);
}
