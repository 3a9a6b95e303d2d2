// TPM 2.0 Library Part 2, 11.2.4 to 11.4: RSA, ECC, signatures and encrypted secrets.
import { MAX_ECC_KEY_BYTES, MAX_RSA_KEY_BYTES, TPM_ALG } from '../constants/index.js';
import { empty, type Infer, select, sized, struct, tpm2b, union } from '../schema.js';
import { TPMI_ALG_HASH, TPMI_ALG_SIG_SCHEME, TPMI_ALG_SIG_SCHEME_PLUS } from './algorithms.js';
import { TPM_ECC_CURVE_FIELD, TPM_KEY_BITS } from './constants.js';
import { TPMT_HA } from './digests.js';
import { TPMT_ECC_SCHEME_PLUS, TPMT_KDF_SCHEME_PLUS } from './schemes.js';

/** An RSA modulus, or a number modulo it (Part 2, 11.2.4.5). */
export const TPM2B_PUBLIC_KEY_RSA = tpm2b(MAX_RSA_KEY_BYTES);
/** One prime factor of an RSA modulus (Part 2, 11.2.4.7). */
export const TPM2B_PRIVATE_KEY_RSA = tpm2b(MAX_RSA_KEY_BYTES / 2);

/** A coordinate or a number modulo the order of a curve (Part 2, 11.2.5.1). */
export const TPM2B_ECC_PARAMETER = tpm2b(MAX_ECC_KEY_BYTES);
export const TPMS_ECC_POINT = struct({ x: TPM2B_ECC_PARAMETER, y: TPM2B_ECC_PARAMETER });
export type TPMS_ECC_POINT = Infer<typeof TPMS_ECC_POINT>;
export const TPM2B_ECC_POINT = sized(TPMS_ECC_POINT);

/** Parameters of a curve (Part 2, 11.2.5.7). `keySize` is in bits. */
export const TPMS_ALGORITHM_DETAIL_ECC = struct({
  curveID: TPM_ECC_CURVE_FIELD,
  keySize: TPM_KEY_BITS,
  kdf: TPMT_KDF_SCHEME_PLUS,
  sign: TPMT_ECC_SCHEME_PLUS,
  p: TPM2B_ECC_PARAMETER,
  a: TPM2B_ECC_PARAMETER,
  b: TPM2B_ECC_PARAMETER,
  gX: TPM2B_ECC_PARAMETER,
  gY: TPM2B_ECC_PARAMETER,
  n: TPM2B_ECC_PARAMETER,
  h: TPM2B_ECC_PARAMETER,
});
export type TPMS_ALGORITHM_DETAIL_ECC = Infer<typeof TPMS_ALGORITHM_DETAIL_ECC>;

export const TPMS_SIGNATURE_RSA = struct({ hash: TPMI_ALG_HASH, sig: TPM2B_PUBLIC_KEY_RSA });
export type TPMS_SIGNATURE_RSA = Infer<typeof TPMS_SIGNATURE_RSA>;
export const TPMS_SIGNATURE_ECC = struct({
  hash: TPMI_ALG_HASH,
  signatureR: TPM2B_ECC_PARAMETER,
  signatureS: TPM2B_ECC_PARAMETER,
});
export type TPMS_SIGNATURE_ECC = Infer<typeof TPMS_SIGNATURE_ECC>;
/** Signature of each scheme (Part 2, 11.3.3). */
export const TPMU_SIGNATURE = union({
  [TPM_ALG.RSASSA]: TPMS_SIGNATURE_RSA,
  [TPM_ALG.RSAPSS]: TPMS_SIGNATURE_RSA,
  [TPM_ALG.ECDSA]: TPMS_SIGNATURE_ECC,
  [TPM_ALG.ECDAA]: TPMS_SIGNATURE_ECC,
  [TPM_ALG.SM2]: TPMS_SIGNATURE_ECC,
  [TPM_ALG.ECSCHNORR]: TPMS_SIGNATURE_ECC,
  [TPM_ALG.HMAC]: TPMT_HA,
  [TPM_ALG.NULL]: empty,
});
/** A signature (Part 2, 11.3.4). The type is that of {@link TPMT_SIGNATURE_PLUS}; decoding refuses `NULL`. */
export const TPMT_SIGNATURE = struct({ sigAlg: TPMI_ALG_SIG_SCHEME, signature: select('sigAlg', TPMU_SIGNATURE) });
export type TPMT_SIGNATURE = Infer<typeof TPMT_SIGNATURE>;
/** A signature, or `NULL` where nothing was signed: an attestation without a key. */
export const TPMT_SIGNATURE_PLUS = struct({ sigAlg: TPMI_ALG_SIG_SCHEME_PLUS, signature: select('sigAlg', TPMU_SIGNATURE) });
export type TPMT_SIGNATURE_PLUS = Infer<typeof TPMT_SIGNATURE_PLUS>;

/** An RSA ciphertext, or a `TPMS_ECC_POINT` as bytes (Part 2, 11.4). */
export const TPM2B_ENCRYPTED_SECRET = tpm2b(MAX_RSA_KEY_BYTES);
