// Integers of any size. BigInt arithmetic takes a time that depends on its operands: nothing here multiplies a point, and what
// handles a long-lived secret is blinded by its caller. See docs at each use.
import { randomBytes } from 'node:crypto';

/** The number that big-endian `bytes` hold; 0 for none. */
export function toBigInt(bytes: Uint8Array): bigint {
  return bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}

/** `value` as `size` big-endian bytes. Throws `RangeError` if it does not fit. */
export function toBytes(value: bigint, size: number): Buffer {
  const hex = value.toString(16).padStart(size * 2, '0');
  if (value < 0n || hex.length > size * 2) throw new RangeError(`value does not fit ${size.toString()} bytes`);
  return Buffer.from(hex, 'hex');
}

/** Number of significant bits. */
export function bitLength(value: bigint): number {
  return value === 0n ? 0 : value.toString(2).length;
}

/** The residue of `value` in `0 .. modulus - 1`. */
export function mod(value: bigint, modulus: bigint): bigint {
  const rest = value % modulus;
  return rest < 0n ? rest + modulus : rest;
}

/** Greatest common divisor. */
export function gcd(a: bigint, b: bigint): bigint {
  while (b !== 0n) [a, b] = [b, a % b];
  return a;
}

/** The inverse of `value`. Throws `RangeError` if there is none. */
export function modInverse(value: bigint, modulus: bigint): bigint {
  let [r0, r1] = [modulus, mod(value, modulus)];
  let [t0, t1] = [0n, 1n];
  while (r1 !== 0n) {
    const q = r0 / r1;
    [r0, r1] = [r1, r0 - q * r1];
    [t0, t1] = [t1, t0 - q * t1];
  }
  if (r0 !== 1n) throw new RangeError('value has no inverse');
  return mod(t0, modulus);
}

/** A uniformly distributed number in `1 .. order - 1`, of 64 more random bits than the order has (FIPS 186-4, B.4.1). */
export function randomScalar(order: bigint, draw: (size: number) => Buffer = randomBytes): bigint {
  const bytes = draw(Math.ceil(bitLength(order) / 8) + 8);
  const value = mod(toBigInt(bytes), order - 1n) + 1n;
  bytes.fill(0);
  return value;
}
