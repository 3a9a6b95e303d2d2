// What can go wrong with the chip.
import { baseCode, describeResponseCode, TPM_RC } from '../../tpm/response-code.js';

/** The chip answered a command with an error that tpmux could not get around. */
export class ChipError extends Error {
  override readonly name = 'ChipError';
  /** Command without the `TPM2_` prefix. */
  readonly command: string;
  /** The complete response code. */
  readonly code: number;

  constructor(command: string, code: number) {
    super(`the TPM answered ${command} with ${describeResponseCode(code)}`);
    this.command = command;
    this.code = code;
  }

  /** The code without handle, parameter or session number. */
  get base(): number {
    return baseCode(this.code);
  }
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

/** A response was not what the chip sent: wrong HMAC, or not a TPM response at all. */
export class ChipResponseForged extends Error {
  override readonly name = 'ChipResponseForged';

  constructor(command: string, reason: string) {
    super(`the response to ${command} is not genuine: ${reason}`);
  }
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
