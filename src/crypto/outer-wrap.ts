// TPM 2.0 Library Part 1, 22.4, 23.3 and 24.4: protection of sensitive areas and credentials that leave a TPM.
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { cfb, cipherBlockSize, isCipher } from '../tpm/block-cipher.js';
import { digestSize, hash, hmac } from '../tpm/hash.js';
import { KDFa } from '../tpm/kdf.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { Reader, Writer } from '../tpm/wire.js';

const none = Buffer.alloc(0);

/** A block cipher and its key size: a `TPMT_SYM_DEF_OBJECT`. The mode is always CFB. */
export interface WrapCipher {
  readonly algorithm: number;
  readonly keyBits: number | null;
}

/** What the key that protects determines: its `nameAlg` and its symmetric algorithm. */
export interface WrapParameters {
  readonly hashAlg: number;
  readonly symmetric: WrapCipher;
}

function cipherOf({ algorithm, keyBits }: WrapCipher): { algorithm: number; keyBits: number; zeroIv: Buffer } {
  if (keyBits === null || !isCipher(algorithm, keyBits)) throw new TpmError(TPM_RC.SYMMETRIC);
  return { algorithm, keyBits, zeroIv: Buffer.alloc(cipherBlockSize(algorithm)) };
}

function crypt(direction: 'encrypt' | 'decrypt', { hashAlg, symmetric }: WrapParameters, seed: Buffer, name: Buffer, data: Buffer): Buffer {
  const { algorithm, keyBits, zeroIv } = cipherOf(symmetric);
  const key = KDFa(hashAlg, seed, 'STORAGE', name, none, keyBits);
  const out = cfb(direction, algorithm, key, zeroIv, data);
  key.fill(0);
  return out;
}

function integrityOf(hashAlg: number, seed: Buffer, name: Buffer, encrypted: Buffer): Buffer {
  const key = KDFa(hashAlg, seed, 'INTEGRITY', none, none, digestSize(hashAlg) * 8);
  const value = hmac(hashAlg, key, encrypted, name);
  key.fill(0);
  return value;
}

function withIntegrity(integrity: Buffer, data: Buffer): Buffer {
  const writer = new Writer(2 + integrity.length + data.length);
  writer.uint16(integrity.length);
  writer.raw(integrity);
  writer.raw(data);
  return writer.finish();
}

/** Splits a `TPM2B_DIGEST` off. `TPM_RC_SIZE` or `TPM_RC_INSUFFICIENT` if there is none. */
function splitIntegrity(blob: Buffer): { integrity: Buffer; data: Buffer } {
  const reader = new Reader(blob);
  const size = reader.uint16();
  if (size > 64) throw new TpmError(TPM_RC.SIZE);
  return { integrity: reader.view(size), data: reader.view(reader.remaining) };
}

function sameDigest(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/**
 * Outer wrap (23.3.2.3, 24.4): `TPM2B_DIGEST` of integrity, then `data` encrypted, both with keys from `seed` and `name`. It has no IV, as
 * every seed is used once. `TPM_RC_SYMMETRIC` if the protecting key has no block cipher.
 */
export function outerWrap(parameters: WrapParameters, seed: Buffer, name: Buffer, data: Buffer): Buffer {
  const encrypted = crypt('encrypt', parameters, seed, name, data);
  return withIntegrity(integrityOf(parameters.hashAlg, seed, name, encrypted), encrypted);
}

/**
 * Undoes {@link outerWrap}. `TPM_RC_INTEGRITY` if seed or name are not those it was made with or the blob was changed; `TPM_RC_SIZE`,
 * `TPM_RC_INSUFFICIENT`, `TPM_RC_SYMMETRIC`.
 */
export function outerUnwrap(parameters: WrapParameters, seed: Buffer, name: Buffer, blob: Buffer): Buffer {
  const { integrity, data } = splitIntegrity(blob);
  if (!sameDigest(integrity, integrityOf(parameters.hashAlg, seed, name, data))) throw new TpmError(TPM_RC.INTEGRITY);
  return crypt('decrypt', parameters, seed, name, data);
}

/** A new key for {@link innerWrap}. `TPM_RC_SYMMETRIC` if the cipher is not served. */
export function newInnerKey(symmetric: WrapCipher): Buffer {
  return randomBytes(cipherOf(symmetric).keyBits / 8);
}

/**
 * Inner wrap of a duplication blob (23.3.2.2): `TPM2B_DIGEST` `H_nameAlg(data || name)` and `data`, encrypted with `key`. `hashAlg` is
 * the `nameAlg` of the object that is wrapped. `TPM_RC_SYMMETRIC`; `TPM_RC_SIZE` if the key has not the cipher's size.
 */
export function innerWrap({ hashAlg, symmetric }: WrapParameters, key: Buffer, name: Buffer, data: Buffer): Buffer {
  const { algorithm, keyBits, zeroIv } = cipherOf(symmetric);
  if (key.length * 8 !== keyBits) throw new TpmError(TPM_RC.SIZE);
  const plain = withIntegrity(hash(hashAlg, data, name), data);
  const out = cfb('encrypt', algorithm, key, zeroIv, plain);
  plain.fill(0);
  return out;
}

/** Undoes {@link innerWrap}. `TPM_RC_INTEGRITY` if the key is wrong or the blob was changed; else as there. */
export function innerUnwrap({ hashAlg, symmetric }: WrapParameters, key: Buffer, name: Buffer, blob: Buffer): Buffer {
  const { algorithm, keyBits, zeroIv } = cipherOf(symmetric);
  if (key.length * 8 !== keyBits) throw new TpmError(TPM_RC.SIZE);
  const { integrity, data } = splitIntegrity(cfb('decrypt', algorithm, key, zeroIv, blob));
  if (!sameDigest(integrity, hash(hashAlg, data, name))) throw new TpmError(TPM_RC.INTEGRITY);
  return data;
}
