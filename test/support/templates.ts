// Public areas for tests.
import { TPM_ALG, TPM_ECC_CURVE, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import type { TPMI_ALG_HASH_PLUS, TPMI_ECC_CURVE, TPMT_PUBLIC } from '../../src/tpm/structures/index.js';

/** A template of one type. */
export type PublicOf<T extends TPMT_PUBLIC['type']> = Extract<TPMT_PUBLIC, { type: T }>;
/** Sizes that {@link rsaTemplate} takes. */
export type RsaBits = PublicOf<typeof TPM_ALG.RSA>['parameters']['keyBits'];

const free = TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sensitiveDataOrigin;
const none = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const aes128 = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB } as const;
const nullScheme = { scheme: TPM_ALG.NULL, details: null } as const;

/** Attributes of a key that signs and decrypts. */
export const GENERAL = free | TPMA_OBJECT.sign | TPMA_OBJECT.decrypt;
/** Attributes of a parent. */
export const PARENT = free | TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt;

export function rsaTemplate(keyBits: RsaBits = 2048, nameAlg: TPMI_ALG_HASH_PLUS = TPM_ALG.SHA256): PublicOf<typeof TPM_ALG.RSA> {
  return {
    type: TPM_ALG.RSA,
    nameAlg,
    objectAttributes: GENERAL,
    authPolicy: Buffer.alloc(0),
    parameters: { symmetric: none, scheme: nullScheme, keyBits, exponent: 0 },
    unique: Buffer.alloc(0),
  };
}

export function eccTemplate(
  curveID: TPMI_ECC_CURVE = TPM_ECC_CURVE.NIST_P256,
  nameAlg: TPMI_ALG_HASH_PLUS = TPM_ALG.SHA256,
): PublicOf<typeof TPM_ALG.ECC> {
  return {
    type: TPM_ALG.ECC,
    nameAlg,
    objectAttributes: GENERAL,
    authPolicy: Buffer.alloc(0),
    parameters: { symmetric: none, scheme: nullScheme, curveID, kdf: nullScheme },
    unique: { x: Buffer.alloc(0), y: Buffer.alloc(0) },
  };
}

/** Makes a storage key of a template. */
export function asParent<P extends PublicOf<typeof TPM_ALG.RSA> | PublicOf<typeof TPM_ALG.ECC>>(template: P): P {
  return { ...template, objectAttributes: PARENT, parameters: { ...template.parameters, symmetric: aes128 } };
}

export function hmacTemplate(nameAlg: TPMI_ALG_HASH_PLUS = TPM_ALG.SHA256): PublicOf<typeof TPM_ALG.KEYEDHASH> {
  return {
    type: TPM_ALG.KEYEDHASH,
    nameAlg,
    objectAttributes: free | TPMA_OBJECT.sign,
    authPolicy: Buffer.alloc(0),
    parameters: { scheme: { scheme: TPM_ALG.HMAC, details: { hashAlg: TPM_ALG.SHA256 } } },
    unique: Buffer.alloc(0),
  };
}

export function sealTemplate(): PublicOf<typeof TPM_ALG.KEYEDHASH> {
  return { ...hmacTemplate(), objectAttributes: TPMA_OBJECT.userWithAuth, parameters: { scheme: nullScheme } };
}

export function cipherTemplate(sym: PublicOf<typeof TPM_ALG.SYMCIPHER>['parameters']['sym'] = aes128): PublicOf<typeof TPM_ALG.SYMCIPHER> {
  return {
    type: TPM_ALG.SYMCIPHER,
    nameAlg: TPM_ALG.SHA256,
    objectAttributes: GENERAL,
    authPolicy: Buffer.alloc(0),
    parameters: { sym },
    unique: Buffer.alloc(0),
  };
}
