// TPM 2.0 Library Part 1, annex C: points of elliptic curves. Multiplications by a secret are OpenSSL's, in constant time, where it has
// the curve; what is done with BigInt here is one addition or one comparison of points.
import { createECDH, ECDH, type ECDH as EcdhState } from 'node:crypto';
import type { Curve } from './ecc-curves.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { bitLength, mod, modInverse, randomScalar, toBigInt, toBytes } from './big-integer.js';
import { type Affine, ladder } from './point-arithmetic.js';

/** A point as `TPMS_ECC_POINT` holds it: big-endian coordinates of any length. */
export interface EccPoint {
  readonly x: Buffer;
  readonly y: Buffer;
}

/** A key pair; `d` has as many bytes as the order. */
export interface EccKeyPair {
  readonly d: Buffer;
  readonly point: EccPoint;
}

const UNCOMPRESSED = Buffer.of(4);
const COMPRESSED_EVEN = Buffer.of(2);

function affine(point: EccPoint): Affine {
  return { x: toBigInt(point.x), y: toBigInt(point.y) };
}

function padded(curve: Curve, point: Affine): EccPoint {
  return { x: toBytes(point.x, curve.bytes), y: toBytes(point.y, curve.bytes) };
}

function satisfiesEquation({ p, a, b }: Curve, { x, y }: Affine): boolean {
  return x < p && y < p && mod(y * y - (x * x + a) * x - b, p) === 0n;
}

/** Whether a point lies on the curve. The point at infinity has no coordinates and is not one. */
export function isOnCurve(curve: Curve, point: EccPoint): boolean {
  if (point.x.length > curve.bytes * 2 || point.y.length > curve.bytes * 2) return false;
  return satisfiesEquation(curve, affine(point));
}

function fromOctets(curve: Curve, octets: Buffer): EccPoint {
  return { x: octets.subarray(1, 1 + curve.bytes), y: octets.subarray(1 + curve.bytes, 1 + 2 * curve.bytes) };
}

/** The curve's name in OpenSSL. Where there is none this file does without it. */
function opensslName({ name }: Curve): string {
  if (name === undefined) throw new Error('OpenSSL does not have this curve');
  return name;
}

function withPrivate(curve: Curve, d: Uint8Array): EcdhState {
  const state = createECDH(opensslName(curve));
  state.setPrivateKey(d);
  return state;
}

/** A new random key pair. */
export function generateEccKey(curve: Curve): EccKeyPair {
  if (curve.name === undefined) {
    const own = toBytes(randomScalar(curve.n), curve.orderBytes);
    return { d: own, point: multiplyBase(curve, own) };
  }
  const state = createECDH(curve.name);
  const point = fromOctets(curve, state.generateKeys());
  const secret = state.getPrivateKey();
  const d = Buffer.alloc(curve.orderBytes);
  secret.copy(d, d.length - secret.length);
  secret.fill(0);
  return { d, point };
}

/** Whether `d` is a private key: a number in `1 .. n - 1`. */
export function isPrivateKey(curve: Curve, d: Buffer): boolean {
  const value = toBigInt(d);
  return value > 0n && value < curve.n;
}

/** `[d]G`, for `d` in `1 .. n - 1`. */
export function multiplyBase(curve: Curve, d: Buffer): EccPoint {
  if (curve.name === undefined) return multiplyWithoutOpenssl(curve, d, { x: curve.gX, y: curve.gY });
  return fromOctets(curve, withPrivate(curve, d).getPublicKey());
}

/**
 * `[d]point`, for `d` in `1 .. n - 1`; coordinates are padded to the size of the field. `TPM_RC_ECC_POINT` if the point is not on
 * the curve. As the order is prime the result is never the point at infinity.
 *
 * OpenSSL's ECDH gives the x coordinate only. The curve equation leaves two candidates for y, and x of `[d + 1]point`, which is
 * the sum of the result and the point, tells which of them it is.
 */
export function multiply(curve: Curve, d: Buffer, point: EccPoint): EccPoint {
  if (!isOnCurve(curve, point)) throw new TpmError(TPM_RC.ECC_POINT);
  const { p } = curve;
  const base = affine(point);
  if (curve.name === undefined) return multiplyWithoutOpenssl(curve, d, base);
  const octets = Buffer.concat([UNCOMPRESSED, toBytes(base.x, curve.bytes), toBytes(base.y, curve.bytes)]);
  const xBytes = withPrivate(curve, d).computeSecret(octets);
  const x = toBigInt(xBytes);
  const scalar = toBigInt(d);
  if (x === base.x) return padded(curve, { x, y: scalar === 1n ? base.y : mod(-base.y, p) });
  const sum = withPrivate(curve, toBytes(scalar + 1n, curve.orderBytes)).computeSecret(octets);
  const y = toBigInt(evenY(curve, xBytes));
  const isSum = mod((toBigInt(sum) + x + base.x) * (x - base.x) ** 2n - (y - base.y) ** 2n, p) === 0n;
  sum.fill(0);
  return { x: xBytes, y: toBytes(isSum ? y : p - y, curve.bytes) };
}

function multiplyWithoutOpenssl(curve: Curve, d: Buffer, point: Affine): EccPoint {
  const product = ladder(curve, toBigInt(d), point);
  if (product === undefined) throw new RangeError('a multiple of the order has no coordinates');
  return padded(curve, product);
}

function evenY(curve: Curve, x: Buffer): Buffer {
  const octets = ECDH.convertKey(Buffer.concat([COMPRESSED_EVEN, x]), opensslName(curve), undefined, undefined, 'uncompressed') as Buffer;
  return fromOctets(curve, octets).y;
}

/** `a + b`, or undefined for the point at infinity. Not constant in time: for public points, or sums that are used once. */
export function addPoints(curve: Curve, a: EccPoint, b: EccPoint): EccPoint | undefined {
  const sum = add(curve, affine(a), affine(b));
  return sum && padded(curve, sum);
}

function add(curve: Curve, a: Affine, b: Affine): Affine | undefined {
  const { p } = curve;
  if (a.x === b.x && mod(a.y + b.y, p) === 0n) return undefined;
  const slope = a.x === b.x ? (3n * a.x * a.x + curve.a) * modInverse(2n * a.y, p) : (b.y - a.y) * modInverse(b.x - a.x, p);
  const x = mod(slope * slope - a.x - b.x, p);
  return { x, y: mod(slope * (a.x - x) - a.y, p) };
}

/**
 * x coordinate of `[u]G + [v]point`, or undefined if the sum is the point at infinity. For the verification of signatures: nothing
 * of it is secret. `TPM_RC_ECC_POINT` if the point is not on the curve.
 */
export function sumX(curve: Curve, u: bigint, v: bigint, point: EccPoint): bigint | undefined {
  const scalar = (value: bigint): Buffer => toBytes(value, curve.orderBytes);
  const left = u === 0n ? undefined : affine(multiplyBase(curve, scalar(u)));
  const right = v === 0n ? undefined : affine(multiply(curve, scalar(v), point));
  if (left === undefined || right === undefined) return (left ?? right)?.x;
  return add(curve, left, right)?.x;
}

/** The number that ECDSA signs (FIPS 186-4, 6.4): the leftmost bits of the digest, as many as the order has. */
export function truncateDigest(curve: Curve, digest: Buffer): bigint {
  const orderBits = bitLength(curve.n);
  const excess = digest.length * 8 - orderBits;
  const value = toBigInt(digest);
  return excess > 0 ? value >> BigInt(excess) : value;
}
