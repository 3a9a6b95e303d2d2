// TPM 2.0 Library Part 2, 10.1 to 10.9: digests, plain buffers, PCR selections and lists of them.
import {
  DIGEST_SIZE,
  HASH_COUNT,
  MAX_ALG_LIST_SIZE,
  MAX_CAP_CC,
  MAX_CAP_HANDLES,
  MAX_DIGEST_BUFFER,
  MAX_DIGEST_SIZE,
  MAX_NV_BUFFER_SIZE,
  MAX_SYM_BLOCK_SIZE,
  PCR_SELECT_MAX,
  PCR_SELECT_MIN,
  TPM_ALG,
} from '../constants/index.js';
import { TPM_RC, TpmError } from '../response-code.js';
import { empty, fixedBytes, type Infer, list, type Schema, select, struct, tpm2b, union } from '../schema.js';
import { TPMI_ALG_HASH, TPMI_ALG_HASH_PLUS } from './algorithms.js';
import { TPM_ALG_ID, TPM_CC_FIELD, TPM_HANDLE, TPMA_CC_FIELD } from './constants.js';

/** A digest without its size, for each algorithm (Part 2, 10.3.1). */
export const TPMU_HA = union({
  [TPM_ALG.SHA1]: fixedBytes(DIGEST_SIZE[TPM_ALG.SHA1]),
  [TPM_ALG.SHA256]: fixedBytes(DIGEST_SIZE[TPM_ALG.SHA256]),
  [TPM_ALG.SHA384]: fixedBytes(DIGEST_SIZE[TPM_ALG.SHA384]),
  [TPM_ALG.SHA512]: fixedBytes(DIGEST_SIZE[TPM_ALG.SHA512]),
});
/** An algorithm and its digest (Part 2, 10.3.2). */
export const TPMT_HA = struct({ hashAlg: TPMI_ALG_HASH, digest: select('hashAlg', TPMU_HA) });
export type TPMT_HA = Infer<typeof TPMT_HA>;
/** As {@link TPMT_HA}, or `TPM_ALG.NULL` and nothing. */
export const TPMT_HA_PLUS = struct({
  hashAlg: TPMI_ALG_HASH_PLUS,
  digest: select('hashAlg', union({ ...TPMU_HA.arms, [TPM_ALG.NULL]: empty })),
});
export type TPMT_HA_PLUS = Infer<typeof TPMT_HA_PLUS>;

/** A digest of any algorithm, or none (Part 2, 10.4.2). */
export const TPM2B_DIGEST = tpm2b(MAX_DIGEST_SIZE);
/** Data of at most the size of a `TPMT_HA` (Part 2, 10.4.3). */
export const TPM2B_DATA = tpm2b(MAX_DIGEST_SIZE + 2);
export const TPM2B_NONCE = TPM2B_DIGEST;
export const TPM2B_AUTH = TPM2B_DIGEST;
export const TPM2B_OPERAND = TPM2B_DIGEST;
/** Data of an event (Part 2, 10.4.7). */
export const TPM2B_EVENT = tpm2b(1024);
export const TPM2B_MAX_BUFFER = tpm2b(MAX_DIGEST_BUFFER);
export const TPM2B_MAX_NV_BUFFER = tpm2b(MAX_NV_BUFFER_SIZE);
/** When a policy ticket expires: 8 bytes, opaque (Part 2, 10.4.10). */
export const TPM2B_TIMEOUT = tpm2b(8);
export const TPM2B_IV = tpm2b(MAX_SYM_BLOCK_SIZE);
/** A Name: a handle of 4 bytes, or an algorithm and a digest, or nothing (Part 2, 10.5.3). */
export const TPM2B_NAME = tpm2b(68);

/** `sizeofSelect` and the bit map that it counts, as the bit map: PCR `i` is bit `i % 8` of byte `i / 8`. `TPM_RC_VALUE` unless 3 bytes. */
export const PCR_BITMAP: Schema<Buffer> = {
  decode: (r) => {
    const size = r.uint8();
    if (!r.lenient && (size < PCR_SELECT_MIN || size > PCR_SELECT_MAX)) throw new TpmError(TPM_RC.VALUE);
    return r.view(size);
  },
  encode: (w, v) => {
    w.uint8(v.length);
    w.raw(v);
  },
  shape: {
    kind: 'struct',
    fields: [
      ['sizeofSelect', { kind: 'integer', bytes: 1, values: [PCR_SELECT_MAX] }],
      ['pcrSelect', fixedBytes(PCR_SELECT_MAX).shape],
    ],
  },
};
/** Some PCRs (Part 2, 10.6.1). */
export const TPMS_PCR_SELECT = struct({ pcrSelect: PCR_BITMAP });
export type TPMS_PCR_SELECT = Infer<typeof TPMS_PCR_SELECT>;
/** Some PCRs of a bank (Part 2, 10.6.2). */
export const TPMS_PCR_SELECTION = struct({ hash: TPMI_ALG_HASH, pcrSelect: PCR_BITMAP });
export type TPMS_PCR_SELECTION = Infer<typeof TPMS_PCR_SELECTION>;

export const TPML_CC = list(TPM_CC_FIELD, MAX_CAP_CC);
export const TPML_CCA = list(TPMA_CC_FIELD, MAX_CAP_CC);
export const TPML_ALG = list(TPM_ALG_ID, MAX_ALG_LIST_SIZE);
export const TPML_HANDLE = list(TPM_HANDLE, MAX_CAP_HANDLES);
/** Up to 8 digests (Part 2, 10.9.5). */
export const TPML_DIGEST = list(TPM2B_DIGEST, 8);
/** The digests of `PolicyOR`: 2 to 8; else `TPM_RC_SIZE`. */
export const TPML_DIGEST_OR = list(TPM2B_DIGEST, 8, 2);
export const TPML_DIGEST_VALUES = list(TPMT_HA, HASH_COUNT);
export type TPML_DIGEST_VALUES = Infer<typeof TPML_DIGEST_VALUES>;
export const TPML_PCR_SELECTION = list(TPMS_PCR_SELECTION, HASH_COUNT);
export type TPML_PCR_SELECTION = Infer<typeof TPML_PCR_SELECTION>;
