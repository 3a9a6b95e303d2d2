// One job of the chip: several commands that nothing comes between.
import type { Account } from './account.js';
import type { Chip } from './chip.js';
import { ChipRestarted } from './errors.js';
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
        return await job();
      } catch (error) {
        if (!(error instanceof ChipRestarted) || (error.maybeExecuted && !repeatable)) throw error;
        return await job();
      }
    });
  }
}
