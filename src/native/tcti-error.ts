// TSS 2.0 Overview and Common Structures, 3: TSS2_RC, what tpm2-tss answers.

/** The codes of the TCTI layer (10) that this project produces or tells apart. */
export const TSS2_TCTI_RC = {
  GENERAL_FAILURE: 0xa0001,
  NOT_IMPLEMENTED: 0xa0002,
  BAD_CONTEXT: 0xa0003,
  BAD_SEQUENCE: 0xa0007,
  NO_CONNECTION: 0xa0008,
  TRY_AGAIN: 0xa0009,
  IO_ERROR: 0xa000a,
  BAD_VALUE: 0xa000b,
  MALFORMED_RESPONSE: 0xa0011,
  NOT_SUPPORTED: 0xa0015,
} as const;

const layers: Readonly<Record<number, string>> = {
  0: 'tpm',
  6: 'fapi',
  7: 'esapi',
  8: 'sys',
  9: 'mu',
  10: 'tcti',
  11: 'rmt',
  12: 'rm',
  13: 'drvr',
};

/** A failure on the way to the TPM. What the TPM itself answers is never one of these. */
export class TctiError extends Error {
  override readonly name = 'TctiError';
  /** The complete TSS2_RC, e.g. 0xa000a (`TSS2_TCTI_RC_IO_ERROR`). */
  readonly code: number;
  /** The layer of tpm2-tss that it comes from, in its spelling: `tcti`, `esapi`, `rmt`… */
  readonly layer: string;

  constructor(code: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code >>> 0;
    const layer = (this.code >>> 16) & 0xff;
    this.layer = layers[layer] ?? layer.toString();
  }
}
