// TPM 2.0 Library Part 1, annex B: RSA operations on digests and messages. Private operations are OpenSSL's (blinded); they run on the
// calling thread, about 1 ms for 2048 bits.
import { constants, privateDecrypt, privateEncrypt, publicEncrypt, timingSafeEqual, type KeyObject, type RsaPublicKey } from 'node:crypto';
import { TPM_ALG } from '../tpm/constants/index.js';
import { digestSize, hashName, isHashAlg } from '../tpm/hash.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { rsaPublicKey } from './rsa-key.js';
import { decodeRsaes, encodePss, encodeRsassa, verifyPss } from './rsa-padding.js';

/** A public key: big-endian modulus of full length, and the exponent, zero for 65537. */
export interface RsaPublic {
  readonly modulus: Buffer;
  readonly exponent: number;
}

/** A scheme with its hash, if it has one: `TPM_ALG_RSASSA`, `RSAPSS`, `RSAES`, `OAEP` or `NULL`. */
export interface RsaScheme {
  readonly scheme: number;
  readonly hashAlg: number;
}

/** Signs a digest. `TPM_RC_SCHEME` if the scheme or its hash is not served, `TPM_RC_VALUE` and `TPM_RC_SIZE` as the encodings,
 * `TPM_RC_BINDING` if the numbers of the key are none of an RSA key. */
export function rsaSign(key: KeyObject, modulusSize: number, { scheme, hashAlg }: RsaScheme, digest: Buffer): Buffer {
  if (!isHashAlg(hashAlg)) throw new TpmError(TPM_RC.SCHEME);
  const encode = scheme === TPM_ALG.RSASSA ? encodeRsassa : scheme === TPM_ALG.RSAPSS ? encodePss : undefined;
  if (encode === undefined) throw new TpmError(TPM_RC.SCHEME);
  const encoded = encode(hashAlg, digest, modulusSize);
  return computing(TPM_RC.BINDING, () => privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, encoded));
}

/** Whether a signature of a digest is valid. `TPM_RC_SCHEME` if the scheme or its hash is not served. */
export function rsaVerify(key: RsaPublic, { scheme, hashAlg }: RsaScheme, digest: Buffer, signature: Buffer): boolean {
  if (!isHashAlg(hashAlg) || (scheme !== TPM_ALG.RSASSA && scheme !== TPM_ALG.RSAPSS)) throw new TpmError(TPM_RC.SCHEME);
  if (digest.length !== digestSize(hashAlg) || signature.length !== key.modulus.length) return false;
  if (Buffer.compare(signature, key.modulus) >= 0) return false;
  try {
    const encoded = rawPublic(key, signature);
    if (scheme === TPM_ALG.RSAPSS) return verifyPss(hashAlg, digest, encoded);
    return timingSafeEqual(encoded, encodeRsassa(hashAlg, digest, key.modulus.length));
  } catch (error) {
    if (error instanceof TpmError) return false;
    throw error;
  }
}

/** Runs an operation of OpenSSL, which refuses numbers that no RSA key has (a guest may load such): `code` if it does. */
function computing(code: number, operation: () => Buffer): Buffer {
  try {
    return operation();
  } catch {
    throw new TpmError(code);
  }
}

function encryptWith(key: RsaPublic, options: Omit<RsaPublicKey, 'key'>, data: Buffer): Buffer {
  return computing(TPM_RC.VALUE, () => publicEncrypt({ key: rsaPublicKey(key.modulus, key.exponent), ...options }, data));
}

/** `value ^ e mod n`; the value is less than the modulus and as long. */
function rawPublic(key: RsaPublic, value: Buffer): Buffer {
  return encryptWith(key, { padding: constants.RSA_NO_PADDING }, value);
}

/**
 * Encrypts a message with RSAES, OAEP (`label` includes its terminating zero byte or is empty) or, with a NULL scheme, the raw
 * operation. `TPM_RC_VALUE` if the message is too long or not less than the modulus, `TPM_RC_HASH` if the hash does not fit the
 * key, `TPM_RC_SCHEME`.
 */
export function rsaEncryptMessage(key: RsaPublic, { scheme, hashAlg }: RsaScheme, message: Buffer, label: Buffer): Buffer {
  const size = key.modulus.length;
  if (scheme === TPM_ALG.NULL) return rawPublic(key, leftPadded(message, key.modulus));
  if (scheme === TPM_ALG.RSAES) {
    if (message.length > size - 11) throw new TpmError(TPM_RC.VALUE);
    return encryptWith(key, { padding: constants.RSA_PKCS1_PADDING }, message);
  }
  if (scheme !== TPM_ALG.OAEP || !isHashAlg(hashAlg)) throw new TpmError(TPM_RC.SCHEME);
  const room = size - 2 * digestSize(hashAlg) - 2;
  if (room < 0) throw new TpmError(TPM_RC.HASH);
  if (message.length > room) throw new TpmError(TPM_RC.VALUE);
  return encryptWith(key, oaep(hashAlg, label), message);
}

function oaep(hashAlg: number, label: Buffer): { padding: number; oaepHash: string; oaepLabel?: Buffer } {
  const base = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: hashName(hashAlg) };
  return label.length === 0 ? base : { ...base, oaepLabel: label };
}

function leftPadded(message: Buffer, modulus: Buffer): Buffer {
  const first = message.findIndex((byte) => byte !== 0);
  const digits = first < 0 ? Buffer.alloc(0) : message.subarray(first);
  if (digits.length > modulus.length) throw new TpmError(TPM_RC.VALUE);
  const value = Buffer.concat([Buffer.alloc(modulus.length - digits.length), digits]);
  if (Buffer.compare(value, modulus) >= 0) throw new TpmError(TPM_RC.VALUE);
  return value;
}

/**
 * Decrypts; arguments as {@link rsaEncryptMessage}. The result of the raw operation is as long as the modulus. `TPM_RC_SIZE` if the cipher
 * text is not as long as the modulus, `TPM_RC_VALUE` if it is not less than it or its padding is wrong, `TPM_RC_SCHEME`.
 */
export function rsaDecryptMessage(
  key: KeyObject,
  modulus: Buffer,
  { scheme, hashAlg }: RsaScheme,
  cipherText: Buffer,
  label: Buffer,
): Buffer {
  if (cipherText.length !== modulus.length) throw new TpmError(TPM_RC.SIZE);
  if (Buffer.compare(cipherText, modulus) >= 0) throw new TpmError(TPM_RC.VALUE);
  if (scheme === TPM_ALG.OAEP) {
    if (!isHashAlg(hashAlg)) throw new TpmError(TPM_RC.SCHEME);
    return computing(TPM_RC.VALUE, () => privateDecrypt({ key, ...oaep(hashAlg, label) }, cipherText));
  }
  if (scheme !== TPM_ALG.NULL && scheme !== TPM_ALG.RSAES) throw new TpmError(TPM_RC.SCHEME);
  const raw = computing(TPM_RC.BINDING, () => privateDecrypt({ key, padding: constants.RSA_NO_PADDING }, cipherText));
  if (scheme === TPM_ALG.NULL) return raw;
  try {
    return decodeRsaes(raw);
  } finally {
    raw.fill(0);
  }
}
