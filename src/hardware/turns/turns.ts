// Turns at the chip: who wants one says for whom, for what and with which key, and whether anybody still waits for it.
import { orCanceled } from '../../tpm/canceled.js';
import { TPM_RC } from '../../tpm/response-code.js';
import type { Chip } from '../chip/chip.js';
import { ChipError, ChipRestarted } from '../chip/errors.js';
import type { ChipScheduler, TurnRequest } from './scheduler.js';
import type { LoadableKey, SlotCache } from './slots.js';
import { Turn } from './turn.js';

/** Runs a job of the host itself in a turn, as {@link Turns.run} does. */
export type HostTurns = <T>(job: (turn: Turn) => Promise<T>) => Promise<T>;

/** Gives turns at one chip. */
export class Turns {
  constructor(
    private readonly chip: Chip,
    private readonly slots: SlotCache,
    private readonly scheduler: ChipScheduler,
  ) {}

  /** Jobs that wait or run. */
  get pending(): number {
    return this.scheduler.pending;
  }

  /**
   * Runs `job` when it is its turn, and once more from its beginning if the chip was restarted meanwhile. Rejects with `TPM_RC_RETRY`
   * when too many jobs wait, and as the job does. With `TPM_RC_CANCELED` as soon as `signal` is aborted: a job that waits is not
   * run then; of one that runs, the command that the chip is at ends and no other begins, but for those that clean up.
   * @param discard is given the result of a job that nobody waits for any more, e.g. to zeroize it
   */
  run<T>(request: TurnRequest, job: (turn: Turn) => Promise<T>, discard?: (late: T) => void): Promise<T> {
    const { signal, repeatable = true } = request;
    const running = this.scheduler.run(request, async () => {
      try {
        return await this.attempt(request, job);
      } catch (error) {
        const again = error instanceof ChipRestarted && (repeatable || !error.maybeExecuted) && signal?.aborted !== true;
        if (!again) throw error;
        return await this.attempt(request, job);
      }
    });
    return orCanceled(running, signal, discard);
  }

  /** Forgets saved contexts of keys below the key with this Name. */
  forgetContexts(parentName: Buffer): void {
    this.slots.forgetContexts(childPrefix(parentName));
  }

  /** Runs `job`; if it fails as it does in a chip that was cleared or has failed, finds out whether that is so. */
  private async attempt<T>({ guest, signal }: TurnRequest, job: (turn: Turn) => Promise<T>): Promise<T> {
    const turn = new Turn(this.chip, this.slots, signal);
    this.chip.billTo(guest);
    try {
      return await job(turn);
    } catch (error) {
      if (error instanceof ChipError && isSuspicious(error)) await this.chip.examine();
      throw error;
    } finally {
      turn.end();
    }
  }
}

/** What {@link LoadableKey.id} begins with for keys below the key with this Name. */
function childPrefix(parentName: Buffer): string {
  return `${parentName.toString('hex')}/`;
}

/** Whether `key` is `root` or below it. */
export function isOf(root: LoadableKey, key: LoadableKey): boolean {
  return key.id === root.id || key.id.startsWith(childPrefix(root.name));
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
