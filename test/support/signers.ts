// Keys that are not the TPM's: their owner signs outside, the TPM verifies.
import { constants, createHmac, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { TPM_ALG, TPM_RH, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { hash } from '../../src/tpm/hash.js';
import type { TPMT_PUBLIC, TPMT_SENSITIVE, TPMT_SIGNATURE } from '../../src/tpm/structures/index.js';
import { none } from './frames.js';
import { eccTemplate, hmacTemplate, rsaTemplate } from './templates.js';

const alg = TPM_ALG.SHA256;

/** A key that is not the TPM's, and how to sign with it. */
export interface Signer {
  readonly publicArea: TPMT_PUBLIC;
  readonly inPrivate: TPMT_SENSITIVE | null;
  readonly sign: (data: Buffer) => TPMT_SIGNATURE;
}

const field = (key: KeyObject, name: 'n' | 'x' | 'y'): Buffer => Buffer.from(key.export({ format: 'jwk' })[name] ?? '', 'base64url');

export function rsaSigner(): Signer {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const publicArea: TPMT_PUBLIC = {
    ...rsaTemplate(),
    objectAttributes: TPMA_OBJECT.sign | TPMA_OBJECT.userWithAuth,
    unique: field(publicKey, 'n'),
  };
  const padding = constants.RSA_PKCS1_PADDING;
  return {
    publicArea,
    inPrivate: null,
    sign: (data) => ({ sigAlg: TPM_ALG.RSASSA, signature: { hash: alg, sig: sign('sha256', data, { key: privateKey, padding }) } }),
  };
}

export function eccSigner(): Signer {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const unique = { x: field(publicKey, 'x'), y: field(publicKey, 'y') };
  const publicArea: TPMT_PUBLIC = { ...eccTemplate(), objectAttributes: TPMA_OBJECT.sign | TPMA_OBJECT.userWithAuth, unique };
  return {
    publicArea,
    inPrivate: null,
    sign: (data) => {
      const raw = sign('sha256', data, { key: privateKey, dsaEncoding: 'ieee-p1363' });
      return { sigAlg: TPM_ALG.ECDSA, signature: { hash: alg, signatureR: raw.subarray(0, 32), signatureS: raw.subarray(32) } };
    },
  };
}

function hmacSigner(): Signer {
  const [key, seedValue] = [randomBytes(32), randomBytes(32)];
  const publicArea: TPMT_PUBLIC = {
    ...hmacTemplate(),
    objectAttributes: TPMA_OBJECT.sign | TPMA_OBJECT.userWithAuth,
    unique: hash(alg, seedValue, key),
  };
  const inPrivate: TPMT_SENSITIVE = { sensitiveType: TPM_ALG.KEYEDHASH, authValue: none, seedValue, sensitive: key };
  const hmac = (data: Buffer): Buffer => createHmac('sha256', key).update(hash(alg, data)).digest();
  return { publicArea, inPrivate, sign: (data) => ({ sigAlg: TPM_ALG.HMAC, signature: { hashAlg: alg, digest: hmac(data) } }) };
}

/** Every kind of key that can sign a policy: name, maker and hierarchy to load it in. */
export const signerKinds: readonly [string, () => Signer, number][] = [
  ['RSA', rsaSigner, TPM_RH.OWNER],
  ['ECC', eccSigner, TPM_RH.OWNER],
  ['HMAC', hmacSigner, TPM_RH.NULL],
];
