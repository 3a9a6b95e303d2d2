// TPM 2.0 Library Part 1, annex B: RSA keys. A TPM keeps one prime of a private key; the rest follows from the modulus.
import { checkPrime, checkPrimeSync, createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { bitLength, gcd, modInverse, toBigInt, toBytes } from './big-integer.js';
import { integer, readElement, readElements, sequence } from './der.js';
import type { RandomBytes } from './random.js';

const DEFAULT_EXPONENT = 65537;
/** Key sizes in bits of software keys. */
export const SOFTWARE_RSA_BITS: readonly number[] = [1024, 2048, 3072];

const generate = promisify(generateKeyPair);
const isPrime = promisify(checkPrime);

/** A key as a TPM stores it: big-endian modulus, and one prime of half its length. */
export interface RsaKey {
  readonly modulus: Buffer;
  readonly prime: Buffer;
}

/** The exponent that `TPMS_RSA_PARMS.exponent` stands for: zero is 65537. */
export function publicExponent(exponent: number): number {
  return exponent === 0 ? DEFAULT_EXPONENT : exponent;
}

/** `TPM_RC_KEY_SIZE` if software keys have not this size, `TPM_RC_RANGE` if the exponent is less than 65537 or no prime. */
function checkRsaParameters(keyBits: number, exponent: number): void {
  if (!SOFTWARE_RSA_BITS.includes(keyBits)) throw new TpmError(TPM_RC.KEY_SIZE);
  const e = publicExponent(exponent);
  if (e < DEFAULT_EXPONENT || (e !== DEFAULT_EXPONENT && !checkPrimeSync(BigInt(e)))) throw new TpmError(TPM_RC.RANGE);
}

/** A public key for node:crypto. `exponent` may be zero. */
export function rsaPublicKey(modulus: Buffer, exponent: number): KeyObject {
  const e = toBytes(BigInt(publicExponent(exponent)), 4);
  return createPublicKey({ key: { kty: 'RSA', n: modulus.toString('base64url'), e: e.toString('base64url') }, format: 'jwk' });
}

/**
 * A private key for node:crypto out of a modulus and one of its primes. `TPM_RC_BINDING` if the prime does not divide the modulus or
 * no private key follows from it. That it is prime is not checked, nor is it in a TPM.
 */
export function rsaPrivateKey(modulus: Buffer, exponent: number, prime: Buffer): KeyObject {
  const n = toBigInt(modulus);
  const p = toBigInt(prime);
  const q = p === 0n ? 0n : n / p;
  if (p <= 1n || q <= 1n || p * q !== n || p === q) throw new TpmError(TPM_RC.BINDING);
  const e = BigInt(publicExponent(exponent));
  try {
    const d = modInverse(e, (p - 1n) * (q - 1n));
    const der = pkcs1([0n, n, e, d, p, q, d % (p - 1n), d % (q - 1n), modInverse(q, p)]);
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs1' });
    der.fill(0);
    return key;
  } catch {
    throw new TpmError(TPM_RC.BINDING);
  }
}

/** A new random key, made in a thread of the pool. `TPM_RC_KEY_SIZE`, `TPM_RC_RANGE` as {@link checkRsaParameters}. */
export async function generateRsaKey(keyBits: number, exponent: number): Promise<RsaKey> {
  checkRsaParameters(keyBits, exponent);
  const { privateKey } = await generate('rsa', { modulusLength: keyBits, publicExponent: publicExponent(exponent) });
  const der = privateKey.export({ format: 'der', type: 'pkcs1' });
  const [, modulus, , , prime] = readElements(readElement(der)?.content ?? der) ?? [];
  if (modulus === undefined || prime === undefined) throw new Error('unexpected form of a generated RSA key');
  const key = { modulus: toBytes(toBigInt(modulus.content), keyBits / 8), prime: toBytes(toBigInt(prime.content), keyBits / 16) };
  der.fill(0);
  return key;
}

/**
 * A key that is a function of the bytes that `draw` yields, with the constraints of FIPS 186-4, B.3.3: the two top bits of both primes
 * set, `|p - q| > 2^(keyBits / 2 - 100)`, `e` prime to `p - 1` and `q - 1`. Primality tests run in a thread of the pool.
 * `TPM_RC_KEY_SIZE`, `TPM_RC_RANGE` as {@link checkRsaParameters}.
 */
export async function deriveRsaKey(keyBits: number, exponent: number, draw: RandomBytes): Promise<RsaKey> {
  checkRsaParameters(keyBits, exponent);
  const e = BigInt(publicExponent(exponent));
  const bits = keyBits / 2;
  const p = await derivePrime(bits, e, draw);
  let q = await derivePrime(bits, e, draw);
  while (bitLength(p > q ? p - q : q - p) <= bits - 100) q = await derivePrime(bits, e, draw);
  return { modulus: toBytes(p * q, keyBits / 8), prime: toBytes(p, keyBits / 16) };
}

/** Product of the odd primes below 256: what shares a factor with it is not worth a primality test. */
const SMALL_PRIMES = smallPrimes(256).reduce((product, prime) => product * BigInt(prime), 1n);

function smallPrimes(limit: number): number[] {
  const primes: number[] = [];
  for (let n = 3; n < limit; n += 2) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  return primes;
}

async function derivePrime(bits: number, e: bigint, draw: RandomBytes): Promise<bigint> {
  for (;;) {
    const bytes = draw(bits / 8);
    bytes[0] = (bytes[0] ?? 0) | 0xc0;
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) | 1;
    const candidate = toBigInt(bytes);
    bytes.fill(0);
    if (gcd(SMALL_PRIMES, candidate) !== 1n || gcd(candidate - 1n, e) !== 1n) continue;
    if (await isPrime(candidate)) return candidate;
  }
}

/** `RSAPrivateKey` of PKCS #1 (RFC 8017, A.1.2). */
function pkcs1(numbers: readonly bigint[]): Buffer {
  const integers = numbers.map((number) => integer(toBytes(number, Math.floor(bitLength(number) / 8) + 1)));
  const der = sequence(...integers);
  for (const bytes of integers) bytes.fill(0);
  return der;
}
