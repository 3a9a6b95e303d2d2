// TPM 2.0 Library Part 2, 11.1: symmetric algorithms, derivation and sensitive creation data.
import { LABEL_MAX_BUFFER, MAX_SYM_DATA, MAX_SYM_KEY_BYTES, TPM_ALG } from '../constants/index.js';
import { empty, type Infer, select, sized, struct, tpm2b, union } from '../schema.js';
import {
  TPMI_AES_KEY_BITS,
  TPMI_ALG_HASH,
  TPMI_ALG_SYM,
  TPMI_ALG_SYM_MODE_PLUS,
  TPMI_ALG_SYM_OBJECT,
  TPMI_ALG_SYM_OBJECT_PLUS,
  TPMI_ALG_SYM_PLUS,
  TPMI_CAMELLIA_KEY_BITS,
  TPMI_TDES_KEY_BITS,
} from './algorithms.js';
import { TPM2B_AUTH } from './digests.js';

const cipherKeyBits = {
  [TPM_ALG.TDES]: TPMI_TDES_KEY_BITS,
  [TPM_ALG.AES]: TPMI_AES_KEY_BITS,
  [TPM_ALG.CAMELLIA]: TPMI_CAMELLIA_KEY_BITS,
  [TPM_ALG.NULL]: empty,
} as const;
const cipherMode = {
  [TPM_ALG.TDES]: TPMI_ALG_SYM_MODE_PLUS,
  [TPM_ALG.AES]: TPMI_ALG_SYM_MODE_PLUS,
  [TPM_ALG.CAMELLIA]: TPMI_ALG_SYM_MODE_PLUS,
  [TPM_ALG.NULL]: empty,
} as const;
/** Key size in bits, or the hash of XOR (Part 2, 11.1.3). */
export const TPMU_SYM_KEY_BITS = union({ ...cipherKeyBits, [TPM_ALG.XOR]: TPMI_ALG_HASH });
/** Mode of a block cipher; XOR has none (Part 2, 11.1.4). */
export const TPMU_SYM_MODE = union({ ...cipherMode, [TPM_ALG.XOR]: empty });

/** Symmetric algorithm of a session (Part 2, 11.1.6). The type is that of {@link TPMT_SYM_DEF_PLUS}; decoding refuses `NULL`. */
export const TPMT_SYM_DEF = struct({
  algorithm: TPMI_ALG_SYM,
  keyBits: select('algorithm', TPMU_SYM_KEY_BITS),
  mode: select('algorithm', TPMU_SYM_MODE),
});
export type TPMT_SYM_DEF = Infer<typeof TPMT_SYM_DEF>;
export const TPMT_SYM_DEF_PLUS = struct({
  algorithm: TPMI_ALG_SYM_PLUS,
  keyBits: select('algorithm', TPMU_SYM_KEY_BITS),
  mode: select('algorithm', TPMU_SYM_MODE),
});
export type TPMT_SYM_DEF_PLUS = Infer<typeof TPMT_SYM_DEF_PLUS>;

/** Symmetric algorithm of an object: no XOR (Part 2, 11.1.7). The type is that of {@link TPMT_SYM_DEF_OBJECT_PLUS}. */
export const TPMT_SYM_DEF_OBJECT = struct({
  algorithm: TPMI_ALG_SYM_OBJECT,
  keyBits: select('algorithm', union(cipherKeyBits)),
  mode: select('algorithm', union(cipherMode)),
});
export type TPMT_SYM_DEF_OBJECT = Infer<typeof TPMT_SYM_DEF_OBJECT>;
export const TPMT_SYM_DEF_OBJECT_PLUS = struct({
  algorithm: TPMI_ALG_SYM_OBJECT_PLUS,
  keyBits: select('algorithm', union(cipherKeyBits)),
  mode: select('algorithm', union(cipherMode)),
});
export type TPMT_SYM_DEF_OBJECT_PLUS = Infer<typeof TPMT_SYM_DEF_OBJECT_PLUS>;

export const TPM2B_SYM_KEY = tpm2b(MAX_SYM_KEY_BYTES);
export const TPMS_SYMCIPHER_PARMS = struct({ sym: TPMT_SYM_DEF_OBJECT });
export type TPMS_SYMCIPHER_PARMS = Infer<typeof TPMS_SYMCIPHER_PARMS>;

export const TPM2B_LABEL = tpm2b(LABEL_MAX_BUFFER);
/** Label and context of a derived object (Part 2, 11.1.11). */
export const TPMS_DERIVE = struct({ label: TPM2B_LABEL, context: TPM2B_LABEL });
export type TPMS_DERIVE = Infer<typeof TPMS_DERIVE>;
/** A `TPMS_DERIVE` as bytes. */
export const TPM2B_DERIVE = tpm2b(2 * (LABEL_MAX_BUFFER + 2));

/** Data to seal, a key, or a `TPMS_DERIVE` (Part 2, 11.1.14). */
export const TPM2B_SENSITIVE_DATA = tpm2b(MAX_SYM_DATA);
/** The secret part of what is to be created (Part 2, 11.1.15). */
export const TPMS_SENSITIVE_CREATE = struct({ userAuth: TPM2B_AUTH, data: TPM2B_SENSITIVE_DATA });
export type TPMS_SENSITIVE_CREATE = Infer<typeof TPMS_SENSITIVE_CREATE>;
export const TPM2B_SENSITIVE_CREATE = sized(TPMS_SENSITIVE_CREATE);
