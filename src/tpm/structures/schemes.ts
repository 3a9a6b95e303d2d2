// TPM 2.0 Library Part 2, 11.1.17 to 11.2.3: schemes. A scheme of `NULL` has no details (`null`); the `_PLUS` variants
// allow it. A variant without `_PLUS` has the same type and refuses `NULL` when it decodes.
import { TPM_ALG } from '../constants/index.js';
import { empty, type Infer, select, struct, uint16, union } from '../schema.js';
import {
  TPMI_ALG_ASYM_SCHEME,
  TPMI_ALG_ASYM_SCHEME_PLUS,
  TPMI_ALG_ECC_SCHEME,
  TPMI_ALG_ECC_SCHEME_PLUS,
  TPMI_ALG_HASH,
  TPMI_ALG_KDF,
  TPMI_ALG_KDF_PLUS,
  TPMI_ALG_KEYEDHASH_SCHEME,
  TPMI_ALG_KEYEDHASH_SCHEME_PLUS,
  TPMI_ALG_RSA_DECRYPT,
  TPMI_ALG_RSA_DECRYPT_PLUS,
  TPMI_ALG_RSA_SCHEME,
  TPMI_ALG_RSA_SCHEME_PLUS,
  TPMI_ALG_SIG_SCHEME,
  TPMI_ALG_SIG_SCHEME_PLUS,
} from './algorithms.js';

/** A scheme that needs a hash (Part 2, 11.1.17). */
export const TPMS_SCHEME_HASH = struct({ hashAlg: TPMI_ALG_HASH });
export type TPMS_SCHEME_HASH = Infer<typeof TPMS_SCHEME_HASH>;
/** A hash, and the counter of `Commit` (Part 2, 11.1.18). */
export const TPMS_SCHEME_ECDAA = struct({ hashAlg: TPMI_ALG_HASH, count: uint16 });
export type TPMS_SCHEME_ECDAA = Infer<typeof TPMS_SCHEME_ECDAA>;
export const TPMS_SCHEME_HMAC = TPMS_SCHEME_HASH;
/** XOR obfuscation (Part 2, 11.1.21). */
export const TPMS_SCHEME_XOR = struct({ hashAlg: TPMI_ALG_HASH, kdf: TPMI_ALG_KDF_PLUS });
export type TPMS_SCHEME_XOR = Infer<typeof TPMS_SCHEME_XOR>;

export const TPMU_SCHEME_KEYEDHASH = union({
  [TPM_ALG.HMAC]: TPMS_SCHEME_HMAC,
  [TPM_ALG.XOR]: TPMS_SCHEME_XOR,
  [TPM_ALG.NULL]: empty,
});
export const TPMT_KEYEDHASH_SCHEME = struct({ scheme: TPMI_ALG_KEYEDHASH_SCHEME, details: select('scheme', TPMU_SCHEME_KEYEDHASH) });
export type TPMT_KEYEDHASH_SCHEME = Infer<typeof TPMT_KEYEDHASH_SCHEME>;
export const TPMT_KEYEDHASH_SCHEME_PLUS = struct({
  scheme: TPMI_ALG_KEYEDHASH_SCHEME_PLUS,
  details: select('scheme', TPMU_SCHEME_KEYEDHASH),
});
export type TPMT_KEYEDHASH_SCHEME_PLUS = Infer<typeof TPMT_KEYEDHASH_SCHEME_PLUS>;

const rsaSignature = { [TPM_ALG.RSASSA]: TPMS_SCHEME_HASH, [TPM_ALG.RSAPSS]: TPMS_SCHEME_HASH } as const;
const eccSignature = {
  [TPM_ALG.ECDSA]: TPMS_SCHEME_HASH,
  [TPM_ALG.ECDAA]: TPMS_SCHEME_ECDAA,
  [TPM_ALG.SM2]: TPMS_SCHEME_HASH,
  [TPM_ALG.ECSCHNORR]: TPMS_SCHEME_HASH,
} as const;
const rsaEncryption = { [TPM_ALG.RSAES]: empty, [TPM_ALG.OAEP]: TPMS_SCHEME_HASH } as const;
const eccKeyExchange = { [TPM_ALG.ECDH]: TPMS_SCHEME_HASH, [TPM_ALG.ECMQV]: TPMS_SCHEME_HASH } as const;
const none = { [TPM_ALG.NULL]: empty } as const;

/** Details of a signature scheme (Part 2, 11.2.1.4). */
export const TPMU_SIG_SCHEME = union({ ...rsaSignature, ...eccSignature, [TPM_ALG.HMAC]: TPMS_SCHEME_HMAC, ...none });
export const TPMT_SIG_SCHEME = struct({ scheme: TPMI_ALG_SIG_SCHEME, details: select('scheme', TPMU_SIG_SCHEME) });
export type TPMT_SIG_SCHEME = Infer<typeof TPMT_SIG_SCHEME>;
export const TPMT_SIG_SCHEME_PLUS = struct({ scheme: TPMI_ALG_SIG_SCHEME_PLUS, details: select('scheme', TPMU_SIG_SCHEME) });
export type TPMT_SIG_SCHEME_PLUS = Infer<typeof TPMT_SIG_SCHEME_PLUS>;

/** Details of a KDF (Part 2, 11.2.3.2). */
export const TPMU_KDF_SCHEME = union({
  [TPM_ALG.MGF1]: TPMS_SCHEME_HASH,
  [TPM_ALG.KDF1_SP800_56A]: TPMS_SCHEME_HASH,
  [TPM_ALG.KDF2]: TPMS_SCHEME_HASH,
  [TPM_ALG.KDF1_SP800_108]: TPMS_SCHEME_HASH,
  ...none,
});
export const TPMT_KDF_SCHEME = struct({ scheme: TPMI_ALG_KDF, details: select('scheme', TPMU_KDF_SCHEME) });
export type TPMT_KDF_SCHEME = Infer<typeof TPMT_KDF_SCHEME>;
export const TPMT_KDF_SCHEME_PLUS = struct({ scheme: TPMI_ALG_KDF_PLUS, details: select('scheme', TPMU_KDF_SCHEME) });
export type TPMT_KDF_SCHEME_PLUS = Infer<typeof TPMT_KDF_SCHEME_PLUS>;

/** Details of any asymmetric scheme (Part 2, 11.2.3.5). */
export const TPMU_ASYM_SCHEME = union({ ...rsaSignature, ...rsaEncryption, ...eccSignature, ...eccKeyExchange, ...none });
export const TPMT_ASYM_SCHEME = struct({ scheme: TPMI_ALG_ASYM_SCHEME, details: select('scheme', TPMU_ASYM_SCHEME) });
export type TPMT_ASYM_SCHEME = Infer<typeof TPMT_ASYM_SCHEME>;
export const TPMT_ASYM_SCHEME_PLUS = struct({ scheme: TPMI_ALG_ASYM_SCHEME_PLUS, details: select('scheme', TPMU_ASYM_SCHEME) });
export type TPMT_ASYM_SCHEME_PLUS = Infer<typeof TPMT_ASYM_SCHEME_PLUS>;

// The specification uses TPMU_ASYM_SCHEME for all of these; the arms that the scheme can't be are left out, so that types narrow.
const rsaScheme = union({ ...rsaSignature, ...rsaEncryption, ...none });
const rsaDecrypt = union({ ...rsaEncryption, ...none });
const eccScheme = union({ ...eccSignature, ...eccKeyExchange, ...none });

/** Scheme of an RSA key (Part 2, 11.2.4.2). */
export const TPMT_RSA_SCHEME = struct({ scheme: TPMI_ALG_RSA_SCHEME, details: select('scheme', rsaScheme) });
export type TPMT_RSA_SCHEME = Infer<typeof TPMT_RSA_SCHEME>;
export const TPMT_RSA_SCHEME_PLUS = struct({ scheme: TPMI_ALG_RSA_SCHEME_PLUS, details: select('scheme', rsaScheme) });
export type TPMT_RSA_SCHEME_PLUS = Infer<typeof TPMT_RSA_SCHEME_PLUS>;
/** Scheme of an RSA encryption (Part 2, 11.2.4.4). */
export const TPMT_RSA_DECRYPT = struct({ scheme: TPMI_ALG_RSA_DECRYPT, details: select('scheme', rsaDecrypt) });
export type TPMT_RSA_DECRYPT = Infer<typeof TPMT_RSA_DECRYPT>;
export const TPMT_RSA_DECRYPT_PLUS = struct({ scheme: TPMI_ALG_RSA_DECRYPT_PLUS, details: select('scheme', rsaDecrypt) });
export type TPMT_RSA_DECRYPT_PLUS = Infer<typeof TPMT_RSA_DECRYPT_PLUS>;
/** Scheme of an ECC key (Part 2, 11.2.5.6). */
export const TPMT_ECC_SCHEME = struct({ scheme: TPMI_ALG_ECC_SCHEME, details: select('scheme', eccScheme) });
export type TPMT_ECC_SCHEME = Infer<typeof TPMT_ECC_SCHEME>;
export const TPMT_ECC_SCHEME_PLUS = struct({ scheme: TPMI_ALG_ECC_SCHEME_PLUS, details: select('scheme', eccScheme) });
export type TPMT_ECC_SCHEME_PLUS = Infer<typeof TPMT_ECC_SCHEME_PLUS>;
