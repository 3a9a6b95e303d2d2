// TPM 2.0 Library Part 1, 11.4.6: block ciphers in CFB mode, which protects session parameters and sensitive areas.
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { TPM_ALG } from './constants/index.js';
import { TPM_RC, TpmError } from './response-code.js';

const families: Readonly<Record<number, { readonly name: string; readonly keyBits: readonly number[]; readonly blockSize: number }>> = {
  [TPM_ALG.AES]: { name: 'aes', keyBits: [128, 192, 256], blockSize: 16 },
  [TPM_ALG.CAMELLIA]: { name: 'camellia', keyBits: [128, 192, 256], blockSize: 16 },
  [TPM_ALG.TDES]: { name: 'des-ede3', keyBits: [128, 192], blockSize: 8 },
};

/** Whether the cipher is served with this key size. */
export function isCipher(algorithm: number, keyBits: number): boolean {
  return families[algorithm]?.keyBits.includes(keyBits) ?? false;
}

/** Bytes of a cipher block; 0 if the algorithm is not a served cipher. */
export function cipherBlockSize(algorithm: number): number {
  return families[algorithm]?.blockSize ?? 0;
}

/**
 * OpenSSL's name of a cipher in a mode (`cfb`, `ctr`, …). `TPM_RC_SYMMETRIC` if the algorithm is not served,
 * `TPM_RC_KEY_SIZE` if the key has another size than it takes.
 */
export function cipherName(algorithm: number, keyBytes: number, mode: string): string {
  const family = families[algorithm];
  if (family === undefined) throw new TpmError(TPM_RC.SYMMETRIC);
  if (!family.keyBits.includes(keyBytes * 8)) throw new TpmError(TPM_RC.KEY_SIZE);
  if (algorithm === TPM_ALG.TDES) return mode === 'ecb' ? family.name : `${family.name}-${mode}`;
  return `${family.name}-${(keyBytes * 8).toString()}-${mode}`;
}

/** The key as OpenSSL wants it: two-key TDES is `K1 K2 K1`. A copy in that case, which the caller zeroizes. */
export function cipherKey(algorithm: number, key: Buffer): Buffer {
  return algorithm === TPM_ALG.TDES && key.length === 16 ? Buffer.concat([key, key.subarray(0, 8)]) : key;
}

/** A direction of a cipher. */
export type Direction = 'encrypt' | 'decrypt';

/**
 * CFB with a segment of a whole block, over any number of bytes, into a new buffer. `iv` is one block.
 * `TPM_RC_SYMMETRIC`, `TPM_RC_KEY_SIZE` as {@link cipherName}.
 */
export function cfb(direction: Direction, algorithm: number, key: Buffer, iv: Buffer, data: Buffer): Buffer {
  const name = cipherName(algorithm, key.length, 'cfb');
  const fullKey = cipherKey(algorithm, key);
  const cipher = direction === 'encrypt' ? createCipheriv(name, fullKey, iv) : createDecipheriv(name, fullKey, iv);
  const out = cipher.update(data);
  cipher.final();
  if (fullKey !== key) fullKey.fill(0);
  return out;
}
