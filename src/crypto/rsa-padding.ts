// TPM 2.0 Library Part 1, B.4 to B.7 (PKCS #1): encodings of messages and digests as long as the modulus.
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { digestSize, hash, hashOid, requireHash } from '../tpm/hash.js';
import { MGF1 } from '../tpm/kdf.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';

const PSS_TRAILER = 0xbc;
const pssZeros = Buffer.alloc(8);

function xorInto(target: Buffer, mask: Buffer): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] ?? 0) ^ (mask[i] ?? 0);
}

/**
 * EMSA-PKCS1-v1_5 (RSASSA): `00 01 FF… 00 DigestInfo`. `TPM_RC_HASH` if the hash is not served, `TPM_RC_VALUE` if the digest is not one
 * of that hash, `TPM_RC_SIZE` if the modulus is too short.
 */
export function encodeRsassa(hashAlg: number, digest: Buffer, size: number): Buffer {
  const oid = hashOid(hashAlg);
  if (digest.length !== digestSize(hashAlg)) throw new TpmError(TPM_RC.VALUE);
  const algorithm = Buffer.concat([Buffer.of(0x30, oid.length + 2), oid, Buffer.of(0x05, 0x00)]);
  const octets = Buffer.concat([Buffer.of(0x04, digest.length), digest]);
  const info = Buffer.concat([Buffer.of(0x30, algorithm.length + octets.length), algorithm, octets]);
  const fill = size - info.length - 3;
  if (fill < 8) throw new TpmError(TPM_RC.SIZE);
  return Buffer.concat([Buffer.of(0, 1), Buffer.alloc(fill, 0xff), Buffer.of(0), info]);
}

/**
 * EMSA-PSS with MGF1 of the same hash. The salt is as long as the digest, or as long as fits (FIPS 186-4). `TPM_RC_HASH`,
 * `TPM_RC_VALUE`, `TPM_RC_SIZE` as {@link encodeRsassa}.
 */
export function encodePss(hashAlg: number, digest: Buffer, size: number): Buffer {
  const hLen = digestSize(requireHash(hashAlg));
  if (digest.length !== hLen) throw new TpmError(TPM_RC.VALUE);
  const maskedSize = size - hLen - 1;
  if (maskedSize < 1) throw new TpmError(TPM_RC.SIZE);
  const salt = randomBytes(Math.min(maskedSize - 1, hLen));
  const seed = hash(hashAlg, pssZeros, digest, salt);
  const block = Buffer.concat([Buffer.alloc(maskedSize - salt.length - 1), Buffer.of(1), salt]);
  xorInto(block, MGF1(hashAlg, seed, maskedSize));
  block[0] = (block[0] ?? 0) & 0x7f;
  return Buffer.concat([block, seed, Buffer.of(PSS_TRAILER)]);
}

/** Whether `encoded` is an EMSA-PSS encoding of `digest`, with a salt of any length. Nothing of it is secret. */
export function verifyPss(hashAlg: number, digest: Buffer, encoded: Buffer): boolean {
  const hLen = digestSize(hashAlg);
  const maskedSize = encoded.length - hLen - 1;
  if (hLen === 0 || digest.length !== hLen || maskedSize < 1) return false;
  const seed = encoded.subarray(maskedSize, maskedSize + hLen);
  const block = Buffer.from(encoded.subarray(0, maskedSize));
  if ((block[0] ?? 0) > 0x7f || encoded.at(-1) !== PSS_TRAILER) return false;
  xorInto(block, MGF1(hashAlg, seed, maskedSize));
  block[0] = (block[0] ?? 0) & 0x7f;
  const start = block.findIndex((byte) => byte !== 0);
  if (start < 0 || block[start] !== 1) return false;
  return timingSafeEqual(hash(hashAlg, pssZeros, digest, block.subarray(start + 1)), seed);
}

/**
 * Takes the message out of an EME-PKCS1-v1_5 encoding (RSAES): `00 02`, at least 8 bytes other than zero, `00`, message. Which bytes are
 * wrong does not show in the time. `TPM_RC_VALUE` if any is.
 */
export function decodeRsaes(encoded: Buffer): Buffer {
  const zero = (byte: number): number => ((byte - 1) >> 31) & 1;
  let bad = (encoded[0] ?? 1) | ((encoded[1] ?? 0) ^ 2);
  let found = 0;
  let separator = 0;
  for (let i = 2; i < encoded.length; i++) {
    const isFirst = zero(encoded[i] ?? 1) & (found ^ 1);
    separator |= i & -isFirst;
    found |= isFirst;
  }
  bad |= found ^ 1;
  bad |= (separator - 10) >> 31;
  if (bad !== 0) throw new TpmError(TPM_RC.VALUE);
  return Buffer.from(encoded.subarray(separator + 1));
}

/**
 * Takes the message out of an EME-OAEP encoding with MGF1 of the same hash; `label` includes its terminating zero byte or is empty. Which
 * bytes are wrong does not show in the time. `TPM_RC_VALUE` if any is, `TPM_RC_HASH` if the hash is not served.
 */
export function decodeOaep(hashAlg: number, label: Buffer, encoded: Buffer): Buffer {
  const hLen = digestSize(requireHash(hashAlg));
  if (encoded.length < 2 * hLen + 2) throw new TpmError(TPM_RC.VALUE);
  const seed = Buffer.from(encoded.subarray(1, 1 + hLen));
  const block = Buffer.from(encoded.subarray(1 + hLen));
  xorInto(seed, MGF1(hashAlg, block, hLen));
  xorInto(block, MGF1(hashAlg, seed, block.length));
  const zero = (byte: number): number => ((byte - 1) >> 31) & 1;
  const labelHash = hash(hashAlg, label);
  let bad = encoded[0] ?? 1;
  let found = 0;
  let separator = 0;
  for (let i = 0; i < block.length; i++) {
    const byte = block[i] ?? 0;
    if (i < hLen) {
      bad |= byte ^ (labelHash[i] ?? 0);
      continue;
    }
    const isFirst = (zero(byte) ^ 1) & (found ^ 1);
    separator |= i & -isFirst;
    bad |= -isFirst & (byte ^ 1);
    found |= isFirst;
  }
  bad |= found ^ 1;
  const message = Buffer.from(block.subarray(separator + 1));
  for (const secret of [seed, block]) secret.fill(0);
  if (bad === 0) return message;
  message.fill(0);
  throw new TpmError(TPM_RC.VALUE);
}
