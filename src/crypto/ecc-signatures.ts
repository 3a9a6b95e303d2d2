// TPM 2.0 Library Part 1, C.4: ECDSA, EC-Schnorr and SM2 signatures of a digest of any length. node:crypto signs only what it has
// hashed itself, so the last step, arithmetic modulo the order, is done here; the ephemeral point is OpenSSL's.
import { digestSize, hash } from '../tpm/hash.js';
import { bitLength, mod, modInverse, randomScalar, toBigInt, toBytes } from './big-integer.js';
import { generateEccKey, sumX, truncateDigest, type EccPoint } from './ecc.js';
import type { Curve } from './ecc-curves.js';

/** A signature: two numbers, each with as many bytes as the order. */
export interface EccSignature {
  readonly r: Buffer;
  readonly s: Buffer;
}

interface Ephemeral {
  readonly k: bigint;
  readonly x: bigint;
}

function ephemeral(curve: Curve): Ephemeral {
  const { d, point } = generateEccKey(curve);
  const k = toBigInt(d);
  d.fill(0);
  return { k, x: toBigInt(point.x) };
}

/** Draws ephemeral keys until `attempt` yields numbers in `1 .. n - 1`, which the first nearly always does. */
function signWith(curve: Curve, attempt: (one: Ephemeral) => { r: bigint; s: bigint }): EccSignature {
  for (;;) {
    const { r, s } = attempt(ephemeral(curve));
    if (r > 0n && r < curve.n && s > 0n) return { r: toBytes(r, curve.orderBytes), s: toBytes(s, curve.orderBytes) };
  }
}

function inRange(curve: Curve, signature: EccSignature): { r: bigint; s: bigint } | undefined {
  const r = toBigInt(signature.r);
  const s = toBigInt(signature.s);
  return r > 0n && s > 0n && r < curve.n && s < curve.n ? { r, s } : undefined;
}

/** `k + factor * secret`, with both secrets multiplied by a random number that hides them from timing. */
function blindedSum({ n }: Curve, k: bigint, factor: bigint, secret: bigint): bigint {
  const blind = randomScalar(n);
  const sum = mod(mod(blind * k, n) + mod(factor, n) * mod(blind * secret, n), n);
  return mod(sum * modInverse(blind, n), n);
}

/** ECDSA (C.4.2) of a digest, which is truncated to the order. */
export function ecdsaSign(curve: Curve, d: Buffer, digest: Buffer): EccSignature {
  const { n } = curve;
  const e = truncateDigest(curve, digest);
  const secret = toBigInt(d);
  return signWith(curve, ({ k, x }) => {
    const r = mod(x, n);
    // s = (e + r d) / k, with numerator and denominator multiplied by a random number that hides both from timing.
    const blind = randomScalar(n);
    return { r, s: mod((mod(blind * e, n) + r * mod(blind * secret, n)) * modInverse(mod(blind * k, n), n), n) };
  });
}

/** Whether an ECDSA signature is valid. `TPM_RC_ECC_POINT` if the public point is not on the curve. */
export function ecdsaVerify(curve: Curve, point: EccPoint, digest: Buffer, signature: EccSignature): boolean {
  const { n } = curve;
  const numbers = inRange(curve, signature);
  if (numbers === undefined) return false;
  const w = modInverse(numbers.s, n);
  const x = sumX(curve, mod(truncateDigest(curve, digest) * w, n), mod(numbers.r * w, n), point);
  return x !== undefined && mod(x, n) === numbers.r;
}

function schnorrChallenge(curve: Curve, hashAlg: number, x: bigint, digest: Buffer): bigint {
  const bytes = hash(hashAlg, toBytes(x, curve.bytes), digest);
  return toBigInt(bytes.subarray(0, Math.min(digestSize(hashAlg), curve.orderBytes)));
}

/**
 * EC-Schnorr (C.4.3) of a digest: `r = H(x of [k]G || digest)`, cut to the bytes of the order; `s = k + r d`.
 * `TPM_RC_HASH` if the hash is not served.
 */
export function ecSchnorrSign(curve: Curve, d: Buffer, digest: Buffer, hashAlg: number): EccSignature {
  const secret = toBigInt(d);
  return signWith(curve, ({ k, x }) => {
    const r = schnorrChallenge(curve, hashAlg, x, digest);
    return { r, s: blindedSum(curve, k, r, secret) };
  });
}

/** Whether an EC-Schnorr signature is valid. `TPM_RC_ECC_POINT`, `TPM_RC_HASH`. */
export function ecSchnorrVerify(curve: Curve, point: EccPoint, digest: Buffer, hashAlg: number, signature: EccSignature): boolean {
  const numbers = inRange(curve, signature);
  if (numbers === undefined) return false;
  const x = sumX(curve, numbers.s, curve.n - numbers.r, point);
  return x !== undefined && schnorrChallenge(curve, hashAlg, x, digest) === numbers.r;
}

/**
 * ECDAA (C.4.4) of a digest with the ephemeral key of a commit: `k` at random, `T = H(k || digest)`, `s = ephemeral + T d`. The result's
 * `r` is `k` without leading zeros. `TPM_RC_HASH` if the hash is not served.
 */
export function ecdaaSign(curve: Curve, d: Buffer, ephemeralKey: Buffer, digest: Buffer, hashAlg: number): EccSignature {
  const secret = toBigInt(d);
  for (;;) {
    const k = randomScalar(curve.n);
    const r = toBytes(k, Math.ceil(bitLength(k) / 8));
    const challenge = toBigInt(hash(hashAlg, r, digest));
    const s = blindedSum(curve, toBigInt(ephemeralKey), challenge, secret);
    if (s !== 0n) return { r, s: toBytes(s, curve.orderBytes) };
  }
}

/** SM2 (GB/T 32918.2) of the digest `e`, into which the caller has hashed what identifies the signer. */
export function sm2Sign(curve: Curve, d: Buffer, digest: Buffer): EccSignature {
  const { n } = curve;
  const e = toBigInt(digest);
  const secret = toBigInt(d);
  return signWith(curve, ({ k, x }) => {
    const r = mod(e + x, n);
    if (r + k === n) return { r: 0n, s: 0n };
    const blind = randomScalar(n);
    return { r, s: mod(mod(blind * (k - r * secret), n) * modInverse(mod(blind * (1n + secret), n), n), n) };
  });
}

/** Whether an SM2 signature is valid. `TPM_RC_ECC_POINT` if the public point is not on the curve. */
export function sm2Verify(curve: Curve, point: EccPoint, digest: Buffer, signature: EccSignature): boolean {
  const { n } = curve;
  const numbers = inRange(curve, signature);
  if (numbers === undefined) return false;
  const t = mod(numbers.r + numbers.s, n);
  const x = t === 0n ? undefined : sumX(curve, numbers.s, t, point);
  return x !== undefined && mod(toBigInt(digest) + x, n) === numbers.r;
}
