// TPM 2.0 Library Part 1, annex C: points of the curves that OpenSSL has not (Barreto-Naehrig, with a = 0 and a prime order).
//
// BigInt arithmetic takes a time that depends on its operands. Every multiplication does the same number of additions and doublings, with
// randomized coordinates, but it is not constant in time: keys on these curves are for anonymous attestation in tests and old software.
import { bitLength, mod, modInverse, randomScalar } from './big-integer.js';

/** Affine coordinates. */
export interface Affine {
  readonly x: bigint;
  readonly y: bigint;
}

/** What is needed of `y² = x³ + ax + b` over `p`. */
export interface CurveEquation {
  readonly p: bigint;
  readonly a: bigint;
  readonly n: bigint;
}

/** Jacobian coordinates: `x = X / Z²`, `y = Y / Z³`; infinity has `Z = 0`. */
interface Jacobian {
  readonly X: bigint;
  readonly Y: bigint;
  readonly Z: bigint;
}

const INFINITY: Jacobian = { X: 1n, Y: 1n, Z: 0n };

function double({ p, a }: CurveEquation, { X, Y, Z }: Jacobian): Jacobian {
  if (Z === 0n || Y === 0n) return INFINITY;
  const yy = (Y * Y) % p;
  const s = (4n * X * yy) % p;
  const zz = (Z * Z) % p;
  const m = (3n * X * X + a * zz * zz) % p;
  const x = mod(m * m - 2n * s, p);
  return { X: x, Y: mod(m * (s - x) - 8n * yy * yy, p), Z: (2n * Y * Z) % p };
}

function add(curve: CurveEquation, one: Jacobian, other: Jacobian): Jacobian {
  if (one.Z === 0n) return other;
  if (other.Z === 0n) return one;
  const { p } = curve;
  const z1 = (one.Z * one.Z) % p;
  const z2 = (other.Z * other.Z) % p;
  const u1 = (one.X * z2) % p;
  const s1 = (one.Y * z2 * other.Z) % p;
  const h = mod(other.X * z1 - u1, p);
  const r = mod(other.Y * z1 * one.Z - s1, p);
  if (h === 0n) return r === 0n ? double(curve, one) : INFINITY;
  const hh = (h * h) % p;
  const hhh = (h * hh) % p;
  const v = (u1 * hh) % p;
  const x = mod(r * r - hhh - 2n * v, p);
  return { X: x, Y: mod(r * (v - x) - s1 * hhh, p), Z: (h * one.Z * other.Z) % p };
}

function toAffine({ p }: CurveEquation, { X, Y, Z }: Jacobian): Affine | undefined {
  if (Z === 0n) return undefined;
  const inverse = modInverse(Z, p);
  const square = (inverse * inverse) % p;
  return { x: (X * square) % p, y: (Y * square * inverse) % p };
}

/** `[scalar]point` by a ladder over as many bits as the order has; undefined for infinity. */
export function ladder(curve: CurveEquation, scalar: bigint, point: Affine): Affine | undefined {
  const { p, n } = curve;
  const blind = randomScalar(p);
  const square = (blind * blind) % p;
  let low: Jacobian = INFINITY;
  let high: Jacobian = { X: (point.x * square) % p, Y: (point.y * square * blind) % p, Z: blind };
  for (let bit = bitLength(n) - 1; bit >= 0; bit--) {
    const sum = add(curve, low, high);
    if (((scalar >> BigInt(bit)) & 1n) === 0n) [low, high] = [double(curve, low), sum];
    else [low, high] = [sum, double(curve, high)];
  }
  return toAffine(curve, low);
}
