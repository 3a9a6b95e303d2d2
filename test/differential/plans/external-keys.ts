// Keys that were made outside: the same on both TPMs.
import { createHmac, generateKeyPairSync, type KeyObject, sign, constants } from 'node:crypto';
import { TPM_ALG, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import type { TPMT_PUBLIC, TPMT_SENSITIVE, TPMT_SIGNATURE } from '../../../src/tpm/structures/index.js';
import { none } from '../../support/frames.js';
import { cipherTemplate, eccTemplate, hmacTemplate, rsaTemplate } from '../../support/templates.js';
import type { StepMaker } from '../generator.js';
import { symmetric } from './templates.js';

const alg = TPM_ALG.SHA256;
const attributes = TPMA_OBJECT.sign | TPMA_OBJECT.decrypt | TPMA_OBJECT.userWithAuth;

/** A key, and how its owner signs with it. */
export interface ExternalKey {
  readonly publicArea: TPMT_PUBLIC;
  readonly inPrivate: TPMT_SENSITIVE | null;
  readonly sign?: (data: Buffer) => TPMT_SIGNATURE;
}

const field = (key: KeyObject, name: 'n' | 'x' | 'y' | 'd' | 'p'): Buffer =>
  Buffer.from(key.export({ format: 'jwk' })[name] ?? '', 'base64url');

// Key pairs are drawn once a process: which numbers they are makes no difference.
const rsaPair = generateKeyPairSync('rsa', { modulusLength: 2048 });
const eccPair = generateKeyPairSync('ec', { namedCurve: 'P-256' });

function sensitive(sensitiveType: TPMT_PUBLIC['type'], authValue: Buffer, secret: Buffer, seedValue: Buffer = none): TPMT_SENSITIVE {
  return { sensitiveType, authValue, seedValue, sensitive: secret };
}

function rsa(auth: Buffer): ExternalKey {
  const padding = constants.RSA_PKCS1_PADDING;
  return {
    publicArea: { ...rsaTemplate(), objectAttributes: attributes, unique: field(rsaPair.publicKey, 'n') },
    inPrivate: sensitive(TPM_ALG.RSA, auth, field(rsaPair.privateKey, 'p')),
    sign: (data) => ({
      sigAlg: TPM_ALG.RSASSA,
      signature: { hash: alg, sig: sign('sha256', data, { key: rsaPair.privateKey, padding }) },
    }),
  };
}

function ecc(auth: Buffer): ExternalKey {
  const unique = { x: field(eccPair.publicKey, 'x'), y: field(eccPair.publicKey, 'y') };
  return {
    publicArea: { ...eccTemplate(), objectAttributes: attributes, unique },
    inPrivate: sensitive(TPM_ALG.ECC, auth, field(eccPair.privateKey, 'd')),
    sign: (data) => {
      const raw = sign('sha256', data, { key: eccPair.privateKey, dsaEncoding: 'ieee-p1363' });
      return { sigAlg: TPM_ALG.ECDSA, signature: { hash: alg, signatureR: raw.subarray(0, 32), signatureS: raw.subarray(32) } };
    },
  };
}

function hmacKey(g: StepMaker, auth: Buffer): ExternalKey {
  const [key, seed] = [g.choose.bytes(g.choose.of(1, 20, 32, 64, 65, 128)), g.choose.bytes(32)];
  const template = g.choose.once(2)
    ? hmacTemplate()
    : { ...hmacTemplate(), parameters: { scheme: { scheme: TPM_ALG.NULL, details: null } } };
  const publicArea: TPMT_PUBLIC = {
    ...template,
    objectAttributes: TPMA_OBJECT.sign | TPMA_OBJECT.userWithAuth,
    unique: hash(alg, seed, key),
  };
  const digest = (data: Buffer): Buffer => createHmac('sha256', key).update(hash(alg, data)).digest();
  return {
    publicArea,
    inPrivate: sensitive(TPM_ALG.KEYEDHASH, auth, key, seed),
    sign: (data) => ({ sigAlg: TPM_ALG.HMAC, signature: { hashAlg: alg, digest: digest(data) } }),
  };
}

function cipherKey(g: StepMaker, auth: Buffer): ExternalKey {
  const sym = symmetric(g);
  const [key, seed] = [g.choose.bytes((sym.keyBits ?? 128) / 8), g.choose.bytes(32)];
  const publicArea: TPMT_PUBLIC = { ...cipherTemplate(sym), objectAttributes: attributes, unique: hash(alg, seed, key) };
  return { publicArea, inPrivate: sensitive(TPM_ALG.SYMCIPHER, auth, key, seed) };
}

/** One of all kinds; the private part of an asymmetric key is there in half of the cases. */
export function signerOf(g: StepMaker): ExternalKey {
  const { choose } = g;
  const auth = choose.of(none, Buffer.from('external'));
  const kind = choose.below(5);
  const key = kind === 0 ? rsa(auth) : kind === 1 ? ecc(auth) : kind === 2 ? cipherKey(g, auth) : hmacKey(g, auth);
  if (kind > 1 || choose.once(2)) return key;
  const withoutDecrypt = (key.publicArea.objectAttributes & ~(choose.once(2) ? TPMA_OBJECT.decrypt : 0)) >>> 0;
  return { ...key, publicArea: { ...key.publicArea, objectAttributes: withoutDecrypt }, inPrivate: null };
}

/** An asymmetric key with its private part. */
export function externalPair(g: StepMaker): ExternalKey {
  return g.choose.once(2) ? rsa(none) : ecc(Buffer.from('external'));
}

/** The asymmetric key that signs policies. */
export function policySigner(g: StepMaker): ExternalKey {
  const key = g.choose.once(3) ? rsa(none) : ecc(none);
  return { ...key, publicArea: { ...key.publicArea, objectAttributes: TPMA_OBJECT.sign | TPMA_OBJECT.userWithAuth }, inPrivate: null };
}
