// TPM 2.0 Library Part 1, 11.4.10: key derivation functions.
import { digestSize, hash, hmac, requireHash } from './hash.js';
import { uint32Bytes } from './wire.js';

/** The label as it is hashed: with exactly one terminating zero byte, which a caller's bytes may have already. */
function terminated(label: string | Uint8Array): Buffer {
  const bytes = Buffer.from(label);
  return bytes.at(-1) === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(1)]);
}

/** Collects blocks until `bits` bits are there, and clears the excess bits of the first byte. */
function collect(alg: number, bits: number, block: (counter: number) => Buffer): Buffer {
  const size = Math.ceil(bits / 8);
  const perBlock = digestSize(requireHash(alg));
  const out = Buffer.alloc(size);
  for (let counter = 1, at = 0; at < size; counter++, at += perBlock) {
    const bytes = block(counter);
    bytes.copy(out, at, 0, Math.min(perBlock, size - at));
    bytes.fill(0);
  }
  const excess = bits % 8;
  if (excess !== 0 && size > 0) out[0] = (out[0] ?? 0) & ((1 << excess) - 1);
  return out;
}

/**
 * `KDFa` (11.4.10.2): SP 800-108 in counter mode with HMAC. Returns `ceil(bits / 8)` bytes; where `bits` is no multiple of 8
 * the most significant bits of the first byte are zero. `label` gets its terminating zero byte here if it has none.
 * `TPM_RC_HASH` if `alg` is not served.
 */
export function KDFa(
  alg: number,
  key: Uint8Array,
  label: string | Uint8Array,
  contextU: Uint8Array,
  contextV: Uint8Array,
  bits: number,
): Buffer {
  const use = terminated(label);
  const length = uint32Bytes(bits);
  return collect(alg, bits, (counter) => hmac(alg, key, uint32Bytes(counter), use, contextU, contextV, length));
}

/**
 * `KDFe` (11.4.10.3): SP 800-56A single-step derivation from an ECDH secret. `z` is the x coordinate of the shared point, padded
 * to the size of the field; `partyU` and `partyV` are the x coordinates of the ephemeral and the static public key.
 * Result and errors as {@link KDFa}.
 */
export function KDFe(alg: number, z: Uint8Array, label: string | Uint8Array, partyU: Uint8Array, partyV: Uint8Array, bits: number): Buffer {
  const use = terminated(label);
  return collect(alg, bits, (counter) => hash(alg, uint32Bytes(counter), z, use, partyU, partyV));
}

/**
 * XOR obfuscation (11.4.6.3), in place; its own inverse. The mask is `KDFa(alg, key, 'XOR', contextU, contextV)`
 * as long as the data. `TPM_RC_HASH` if `alg` is not served.
 */
export function xorObfuscate(alg: number, key: Uint8Array, contextU: Uint8Array, contextV: Uint8Array, data: Buffer): void {
  const mask = KDFa(alg, key, 'XOR', contextU, contextV, data.length * 8);
  for (let i = 0; i < data.length; i++) data[i] = (data[i] ?? 0) ^ (mask[i] ?? 0);
  mask.fill(0);
}

/** MGF1 (PKCS #1 B.2.1): `size` bytes from `seed`. `TPM_RC_HASH` if `alg` is not served. */
export function MGF1(alg: number, seed: Uint8Array, size: number): Buffer {
  return collect(alg, size * 8, (counter) => hash(alg, seed, uint32Bytes(counter - 1)));
}
