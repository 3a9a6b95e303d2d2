// What can go wrong with the chip.
import { TPM_RC } from '../../tpm/response-code.js';
import { CommandRefused } from '../../tpm/response-error.js';

/** The chip answered a command with an error that tpmux could not get around. */
export class ChipError extends CommandRefused {
  override readonly name = 'ChipError';
}

/** The chip was reset, or the connection to it was lost and is there again: handles and sessions are gone. */
export class ChipRestarted extends Error {
  override readonly name = 'ChipRestarted';
  /** Whether the command may have been executed although its response was lost. */
  readonly maybeExecuted: boolean;

  constructor(command: string, maybeExecuted: boolean) {
    super(`the TPM was restarted during ${command}`);
    this.maybeExecuted = maybeExecuted;
  }
}

/** The chip cannot be reached. */
export class ChipUnavailable extends Error {
  override readonly name = 'ChipUnavailable';
}

/** The chip was cleared, or another one is in its place: the keys of the host are gone from it. Nothing is made anew. */
export class ChipCleared extends Error {
  override readonly name = 'ChipCleared';
}

/** The chip says that it has failed. */
export class ChipFailing extends Error {
  override readonly name = 'ChipFailing';
}

/** The chip is not in the state that tpmux needs; the message says what to do. */
export class HostKeyError extends Error {
  override readonly name = 'HostKeyError';
}

/** The chip does not unseal a state key, because the host's PCRs are not the approved ones. */
export class HostPolicyError extends Error {
  override readonly name = 'HostPolicyError';
}

/** Whether `error` says that the chip cannot be used at all: it is gone, not the right one, or has failed. */
export function isChipGone(error: unknown): boolean {
  return error instanceof ChipUnavailable || error instanceof ChipCleared || error instanceof ChipFailing || error instanceof ChipRestarted;
}

/** Whether the chip says that it has failed. */
export function isChipFailure(error: unknown): boolean {
  return error instanceof ChipFailing || (error instanceof ChipError && error.code === TPM_RC.FAILURE);
}
