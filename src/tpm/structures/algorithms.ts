// TPM 2.0 Library Part 2, 9.27 to 9.37 and 11: interface types of algorithms, in the sets that are served.
import { HASH_ALGORITHMS, type HashAlgorithm, TPM_ALG, TPM_ECC_CURVE, TPM_ST } from '../constants/index.js';
import { TPM_RC } from '../response-code.js';
import { oneOf, type Schema, uint16 } from '../schema.js';
import { TPM_ST_FIELD } from './constants.js';

const NULL = TPM_ALG.NULL;

/** A hash algorithm; else `TPM_RC_HASH`. */
export const TPMI_ALG_HASH: Schema<HashAlgorithm> = oneOf(uint16, HASH_ALGORITHMS, TPM_RC.HASH);
export type TPMI_ALG_HASH = HashAlgorithm;
export const TPMI_ALG_HASH_PLUS = oneOf(uint16, [...HASH_ALGORITHMS, NULL], TPM_RC.HASH);
export type TPMI_ALG_HASH_PLUS = HashAlgorithm | typeof NULL;

const ASYM = [TPM_ALG.RSA, TPM_ALG.ECC] as const;
/** An asymmetric algorithm; else `TPM_RC_ASYMMETRIC`. */
export const TPMI_ALG_ASYM = oneOf(uint16, ASYM, TPM_RC.ASYMMETRIC);
export const TPMI_ALG_ASYM_PLUS = oneOf(uint16, [...ASYM, NULL], TPM_RC.ASYMMETRIC);

const BLOCK_CIPHERS = [TPM_ALG.TDES, TPM_ALG.AES, TPM_ALG.CAMELLIA] as const;
/** A symmetric algorithm of a session, XOR included; else `TPM_RC_SYMMETRIC`. */
export const TPMI_ALG_SYM = oneOf(uint16, [...BLOCK_CIPHERS, TPM_ALG.XOR], TPM_RC.SYMMETRIC);
export const TPMI_ALG_SYM_PLUS = oneOf(uint16, [...BLOCK_CIPHERS, TPM_ALG.XOR, NULL], TPM_RC.SYMMETRIC);
/** A block cipher of an object; else `TPM_RC_SYMMETRIC`. */
export const TPMI_ALG_SYM_OBJECT = oneOf(uint16, BLOCK_CIPHERS, TPM_RC.SYMMETRIC);
export const TPMI_ALG_SYM_OBJECT_PLUS = oneOf(uint16, [...BLOCK_CIPHERS, NULL], TPM_RC.SYMMETRIC);

const CIPHER_MODES = [TPM_ALG.CTR, TPM_ALG.OFB, TPM_ALG.CBC, TPM_ALG.CFB, TPM_ALG.ECB] as const;
/** A mode of a block cipher, CMAC included; else `TPM_RC_MODE`. */
export const TPMI_ALG_SYM_MODE = oneOf(uint16, [...CIPHER_MODES, TPM_ALG.CMAC], TPM_RC.MODE);
export const TPMI_ALG_SYM_MODE_PLUS = oneOf(uint16, [...CIPHER_MODES, TPM_ALG.CMAC, NULL], TPM_RC.MODE);
/** A mode that encrypts; else `TPM_RC_MODE`. */
export const TPMI_ALG_CIPHER_MODE = oneOf(uint16, CIPHER_MODES, TPM_RC.MODE);
export const TPMI_ALG_CIPHER_MODE_PLUS = oneOf(uint16, [...CIPHER_MODES, NULL], TPM_RC.MODE);
/** What makes a MAC: a hash or CMAC; else `TPM_RC_SYMMETRIC`. */
export const TPMI_ALG_MAC_SCHEME = oneOf(uint16, [...HASH_ALGORITHMS, TPM_ALG.CMAC], TPM_RC.SYMMETRIC);
export const TPMI_ALG_MAC_SCHEME_PLUS = oneOf(uint16, [...HASH_ALGORITHMS, TPM_ALG.CMAC, NULL], TPM_RC.SYMMETRIC);

const KDFS = [TPM_ALG.MGF1, TPM_ALG.KDF1_SP800_56A, TPM_ALG.KDF2, TPM_ALG.KDF1_SP800_108] as const;
/** A key derivation function; else `TPM_RC_KDF`. */
export const TPMI_ALG_KDF = oneOf(uint16, KDFS, TPM_RC.KDF);
export const TPMI_ALG_KDF_PLUS = oneOf(uint16, [...KDFS, NULL], TPM_RC.KDF);
export type TPMI_ALG_KDF_PLUS = (typeof KDFS)[number] | typeof NULL;

const RSA_SIGNATURES = [TPM_ALG.RSASSA, TPM_ALG.RSAPSS] as const;
const ECC_SIGNATURES = [TPM_ALG.ECDSA, TPM_ALG.ECDAA, TPM_ALG.SM2, TPM_ALG.ECSCHNORR] as const;
const SIGNATURES = [...RSA_SIGNATURES, ...ECC_SIGNATURES, TPM_ALG.HMAC] as const;
/** A signature scheme; else `TPM_RC_SCHEME`. */
export const TPMI_ALG_SIG_SCHEME = oneOf(uint16, SIGNATURES, TPM_RC.SCHEME);
export const TPMI_ALG_SIG_SCHEME_PLUS = oneOf(uint16, [...SIGNATURES, NULL], TPM_RC.SCHEME);

const KEY_EXCHANGES = [TPM_ALG.ECDH, TPM_ALG.ECMQV, TPM_ALG.SM2] as const;
/** A two-phase key exchange; else `TPM_RC_SCHEME`. */
export const TPMI_ECC_KEY_EXCHANGE = oneOf(uint16, KEY_EXCHANGES, TPM_RC.SCHEME);
export const TPMI_ECC_KEY_EXCHANGE_PLUS = oneOf(uint16, [...KEY_EXCHANGES, NULL], TPM_RC.SCHEME);

const KEYEDHASH_SCHEMES = [TPM_ALG.HMAC, TPM_ALG.XOR] as const;
/** A scheme of a keyed hash (Part 2, 11.1.19); else `TPM_RC_VALUE`. */
export const TPMI_ALG_KEYEDHASH_SCHEME = oneOf(uint16, KEYEDHASH_SCHEMES, TPM_RC.VALUE);
export const TPMI_ALG_KEYEDHASH_SCHEME_PLUS = oneOf(uint16, [...KEYEDHASH_SCHEMES, NULL], TPM_RC.VALUE);

const RSA_ENCRYPTIONS = [TPM_ALG.RSAES, TPM_ALG.OAEP] as const;
const RSA_SCHEMES = [...RSA_SIGNATURES, ...RSA_ENCRYPTIONS] as const;
/** A scheme of an RSA key (Part 2, 11.2.4); else `TPM_RC_VALUE`. */
export const TPMI_ALG_RSA_SCHEME = oneOf(uint16, RSA_SCHEMES, TPM_RC.VALUE);
export const TPMI_ALG_RSA_SCHEME_PLUS = oneOf(uint16, [...RSA_SCHEMES, NULL], TPM_RC.VALUE);
/** An RSA encryption scheme; else `TPM_RC_VALUE`. */
export const TPMI_ALG_RSA_DECRYPT = oneOf(uint16, RSA_ENCRYPTIONS, TPM_RC.VALUE);
export const TPMI_ALG_RSA_DECRYPT_PLUS = oneOf(uint16, [...RSA_ENCRYPTIONS, NULL], TPM_RC.VALUE);

const ECC_SCHEMES = [...ECC_SIGNATURES, TPM_ALG.ECDH, TPM_ALG.ECMQV] as const;
/** A scheme of an ECC key (Part 2, 11.2.5); else `TPM_RC_SCHEME`. */
export const TPMI_ALG_ECC_SCHEME = oneOf(uint16, ECC_SCHEMES, TPM_RC.SCHEME);
export const TPMI_ALG_ECC_SCHEME_PLUS = oneOf(uint16, [...ECC_SCHEMES, NULL], TPM_RC.SCHEME);
/** A scheme of an asymmetric key (Part 2, 11.2.3); else `TPM_RC_VALUE`. */
export const TPMI_ALG_ASYM_SCHEME = oneOf(uint16, [...RSA_SCHEMES, ...ECC_SCHEMES], TPM_RC.VALUE);
export const TPMI_ALG_ASYM_SCHEME_PLUS = oneOf(uint16, [...RSA_SCHEMES, ...ECC_SCHEMES, NULL], TPM_RC.VALUE);

/** A type of object (Part 2, 12.2.2); else `TPM_RC_TYPE`. */
export const TPMI_ALG_PUBLIC = oneOf(uint16, [TPM_ALG.KEYEDHASH, TPM_ALG.SYMCIPHER, TPM_ALG.RSA, TPM_ALG.ECC], TPM_RC.TYPE);
export type TPMI_ALG_PUBLIC = typeof TPM_ALG.KEYEDHASH | typeof TPM_ALG.SYMCIPHER | typeof TPM_ALG.RSA | typeof TPM_ALG.ECC;

/** A curve (Part 2, 11.2.5); else `TPM_RC_CURVE`. */
export const TPMI_ECC_CURVE = oneOf(
  uint16,
  [
    TPM_ECC_CURVE.NIST_P192,
    TPM_ECC_CURVE.NIST_P224,
    TPM_ECC_CURVE.NIST_P256,
    TPM_ECC_CURVE.NIST_P384,
    TPM_ECC_CURVE.NIST_P521,
    TPM_ECC_CURVE.BN_P256,
    TPM_ECC_CURVE.BN_P638,
    TPM_ECC_CURVE.SM2_P256,
  ],
  TPM_RC.CURVE,
);
export type TPMI_ECC_CURVE = Exclude<TPM_ECC_CURVE, typeof TPM_ECC_CURVE.NONE>;

/** Key sizes in bits; else `TPM_RC_VALUE`. */
export const TPMI_AES_KEY_BITS = oneOf(uint16, [128, 256], TPM_RC.VALUE);
export const TPMI_CAMELLIA_KEY_BITS = oneOf(uint16, [128, 256], TPM_RC.VALUE);
export const TPMI_TDES_KEY_BITS = oneOf(uint16, [128, 192], TPM_RC.VALUE);
/** RSA key sizes in bits, for a guest those of libtpms; else `TPM_RC_VALUE`. 4096 is only for a chip (see `Reader.lenient`). */
export const TPMI_RSA_KEY_BITS = oneOf<1024 | 2048 | 3072 | 4096>(uint16, [1024, 2048, 3072], TPM_RC.VALUE);

/** Tag of a command: `TPM_RC_VALUE` if it is no tag at all, `TPM_RC_BAD_TAG` if it is another structure's. */
export const TPMI_ST_COMMAND_TAG = oneOf(TPM_ST_FIELD, [TPM_ST.NO_SESSIONS, TPM_ST.SESSIONS], TPM_RC.BAD_TAG);
