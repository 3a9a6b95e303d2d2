// What a caller of a TPM gets instead of a result.
import { baseCode, describeResponseCode } from './response-code.js';

/** The TPM refused a command. */
export class CommandRefused extends Error {
  override readonly name: string = 'CommandRefused';
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

/** A response was not what the TPM sent: wrong HMAC, or not a TPM response at all. */
export class ResponseForged extends Error {
  override readonly name = 'ResponseForged';

  constructor(command: string, reason: string) {
    super(`the response to ${command} is not genuine: ${reason}`);
  }
}
