// What the chip says to operations of guests' keys, and what their guests get for it.
import { reasonOf } from '../failure.js';
import { ChipError, ChipRestarted, ChipUnavailable } from '../hardware/chip/errors.js';
import type { GuestChip } from '../hardware/guest/guest-chip.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';

/** What the chip says about the guest's input; anything else is the chip's trouble, or ours. */
const GUEST_ERRORS: ReadonlySet<number> = new Set([
  TPM_RC.VALUE,
  TPM_RC.SIZE,
  TPM_RC.SCHEME,
  TPM_RC.HASH,
  TPM_RC.KEY_SIZE,
  TPM_RC.RANGE,
  TPM_RC.CURVE,
  TPM_RC.ECC_POINT,
  TPM_RC.NO_RESULT,
]);
/** What passes: the guest is asked to try again. */
const PASSING_ERRORS: ReadonlySet<number> = new Set([
  TPM_RC.RETRY,
  TPM_RC.YIELDED,
  TPM_RC.TESTING,
  TPM_RC.CANCELED,
  TPM_RC.NV_RATE,
  TPM_RC.OBJECT_MEMORY,
  TPM_RC.OBJECT_HANDLES,
  TPM_RC.SESSION_MEMORY,
  TPM_RC.SESSION_HANDLES,
  TPM_RC.MEMORY,
]);

/** Is told of what the chip refuses. */
export interface KeyLog {
  warn(message: string, fields: { readonly reason: string }): unknown;
}

/**
 * Runs `use`; what the chip says becomes the bare code that the guest gets, and is logged where it is not about the guest's input. What
 * nobody has foreseen is counted, and `TPM_RC_FAILURE`.
 */
export async function asGuestErrors<T>(chip: GuestChip, log: KeyLog, use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    if (error instanceof TpmError) throw error;
    if (error instanceof ChipError && GUEST_ERRORS.has(error.base)) throw new TpmError(error.base);
    log.warn('the TPM did not do what a key of a guest needs', { reason: reasonOf(error) });
    const passes = error instanceof ChipError ? PASSING_ERRORS.has(error.base) : isRestart(error);
    if (error instanceof ChipError && !passes) chip.account.refused(error.command);
    throw new TpmError(passes ? TPM_RC.RETRY : TPM_RC.FAILURE);
  }
}

function isRestart(error: unknown): boolean {
  return error instanceof ChipRestarted || error instanceof ChipUnavailable;
}
