// TPM 2.0 Library Part 1, 11.4.2 and 11.4.3: hash functions and HMAC, on node:crypto.
import { createHash, createHmac, hash as hashOnce, type Hash } from 'node:crypto';
import { DIGEST_SIZE, HASH_ALGORITHMS, TPM_ALG, type HashAlgorithm } from './constants/index.js';
import { TPM_RC, TpmError } from './response-code.js';

interface HashTraits {
  readonly name: 'sha1' | 'sha256' | 'sha384' | 'sha512';
  readonly blockSize: number;
  /** DER of the AlgorithmIdentifier's OID (tag and length included), as RSASSA needs it. */
  readonly oid: Buffer;
}

const traits: Readonly<Record<HashAlgorithm, HashTraits>> = {
  [TPM_ALG.SHA1]: { name: 'sha1', blockSize: 64, oid: Buffer.from('06052b0e03021a', 'hex') },
  [TPM_ALG.SHA256]: { name: 'sha256', blockSize: 64, oid: Buffer.from('0609608648016503040201', 'hex') },
  [TPM_ALG.SHA384]: { name: 'sha384', blockSize: 128, oid: Buffer.from('0609608648016503040202', 'hex') },
  [TPM_ALG.SHA512]: { name: 'sha512', blockSize: 128, oid: Buffer.from('0609608648016503040203', 'hex') },
};

/** Whether `alg` is a hash algorithm that is served. */
export function isHashAlg(alg: number): alg is HashAlgorithm {
  return (HASH_ALGORITHMS as readonly number[]).includes(alg);
}

/** `alg` as a served hash algorithm; `TPM_RC_HASH` if it is none. */
export function requireHash(alg: number): HashAlgorithm {
  if (!isHashAlg(alg)) throw new TpmError(TPM_RC.HASH);
  return alg;
}

/** OpenSSL's name of the hash, e.g. `sha256`. `TPM_RC_HASH` if it is not served. */
export function hashName(alg: number): HashTraits['name'] {
  return traits[requireHash(alg)].name;
}

/** Bytes of a digest; 0 for `TPM_ALG_NULL` and whatever else is not a served hash. */
export function digestSize(alg: number): number {
  return isHashAlg(alg) ? DIGEST_SIZE[alg] : 0;
}

/** Bytes of the hash's input block, which bounds HMAC keys; 0 for what is not a served hash. */
export function blockSize(alg: number): number {
  return isHashAlg(alg) ? traits[alg].blockSize : 0;
}

/** DER of the hash's object identifier, tag and length included. `TPM_RC_HASH` if it is not served. */
export function hashOid(alg: number): Buffer {
  return traits[requireHash(alg)].oid;
}

/** A hash to be fed piece by piece. `TPM_RC_HASH` if `alg` is not served. */
function startHash(alg: number): Hash {
  return createHash(hashName(alg));
}

/** An HMAC to be fed piece by piece. `TPM_RC_HASH` if `alg` is not served. */
function startHmac(alg: number, key: Uint8Array): ReturnType<typeof createHmac> {
  return createHmac(hashName(alg), key);
}

/** Digest of the concatenated `parts`. `TPM_RC_HASH` if `alg` is not served. */
export function hash(alg: number, ...parts: readonly Uint8Array[]): Buffer {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return hashOnce(hashName(alg), only, 'buffer');
  const state = startHash(alg);
  for (const part of parts) state.update(part);
  return state.digest();
}

/** HMAC of the concatenated `parts`. `TPM_RC_HASH` if `alg` is not served. */
export function hmac(alg: number, key: Uint8Array, ...parts: readonly Uint8Array[]): Buffer {
  const state = startHmac(alg, key);
  for (const part of parts) state.update(part);
  return state.digest();
}
