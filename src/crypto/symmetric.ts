// TPM 2.0 Library Part 1, 11.4.6; Part 3, 15: block ciphers in the modes of EncryptDecrypt.
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { cipherBlockSize, cipherKey, cipherName, type Direction } from '../tpm/block-cipher.js';
import { TPM_ALG } from '../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';

const modes: Readonly<Record<number, string>> = {
  [TPM_ALG.CFB]: 'cfb',
  [TPM_ALG.CTR]: 'ctr',
  [TPM_ALG.OFB]: 'ofb',
  [TPM_ALG.CBC]: 'cbc',
  [TPM_ALG.ECB]: 'ecb',
};

/** One operation of `TPM2_EncryptDecrypt`. */
export interface CipherRequest {
  readonly direction: Direction;
  /** `TPM_ALG_AES`, `TPM_ALG_CAMELLIA` or `TPM_ALG_TDES`. */
  readonly algorithm: number;
  /** `TPM_ALG_CFB`, `CTR`, `OFB`, `CBC` or `ECB`. */
  readonly mode: number;
  readonly key: Buffer;
  /** One block; empty for ECB. */
  readonly iv: Buffer;
  readonly data: Buffer;
}

/** What it yields: `iv` is to be given with the next piece of a message; empty for ECB. */
export interface CipherResult {
  readonly data: Buffer;
  readonly iv: Buffer;
}

/** `TPM_RC_MODE`, `TPM_RC_SYMMETRIC`, `TPM_RC_KEY_SIZE`; `TPM_RC_SIZE` if the IV or, for CBC and ECB, the data has not the right length. */
export function cryptBlocks(request: CipherRequest): CipherResult {
  const { algorithm, mode, key, iv, data } = request;
  const modeName = modes[mode];
  if (modeName === undefined) throw new TpmError(TPM_RC.MODE);
  const block = cipherBlockSize(algorithm);
  // OpenSSL has no TDES in counter mode: the key stream is made in ECB mode.
  const ownCounter = algorithm === TPM_ALG.TDES && mode === TPM_ALG.CTR;
  const name = cipherName(algorithm, key.length, ownCounter ? 'ecb' : modeName);
  if (iv.length !== (mode === TPM_ALG.ECB ? 0 : block)) throw new TpmError(TPM_RC.SIZE);
  if ((mode === TPM_ALG.CBC || mode === TPM_ALG.ECB) && data.length % block !== 0) throw new TpmError(TPM_RC.SIZE);
  const fullKey = cipherKey(algorithm, key);
  // Whole blocks, so that all of the key stream of the last one is there.
  const padding = Buffer.alloc((block - (data.length % block)) % block);
  const padded = { ...request, data: padding.length === 0 ? data : Buffer.concat([data, padding]) };
  const out = ownCounter ? counterMode(name, fullKey, iv, padded.data) : run(name, fullKey, padded);
  if (fullKey !== key) fullKey.fill(0);
  const next = nextIv(padded, out, data.length);
  return { data: out.subarray(0, data.length), iv: next };
}

function run(name: string, key: Buffer, { direction, mode, iv, data }: CipherRequest): Buffer {
  const chained = mode === TPM_ALG.ECB ? null : iv;
  const cipher = direction === 'encrypt' ? createCipheriv(name, key, chained) : createDecipheriv(name, key, chained);
  cipher.setAutoPadding(false);
  const out = cipher.update(data);
  cipher.final();
  return out;
}

function counterMode(name: string, key: Buffer, iv: Buffer, data: Buffer): Buffer {
  const blocks = Math.ceil(data.length / iv.length);
  const counters = Buffer.concat(Array.from({ length: blocks }, (_, i) => advanced(iv, i)));
  const stream = createCipheriv(name, key, null).setAutoPadding(false).update(counters);
  const out = Buffer.from(data.map((byte, i) => byte ^ (stream[i] ?? 0)));
  stream.fill(0);
  return out;
}

/** A big-endian counter `steps` further on. */
function advanced(counter: Buffer, steps: number): Buffer {
  const modulus = 1n << BigInt(counter.length * 8);
  const value = (BigInt(`0x${counter.toString('hex')}`) + BigInt(steps)) % modulus;
  return Buffer.from(value.toString(16).padStart(counter.length * 2, '0'), 'hex');
}

/**
 * The chaining value after the first `size` bytes of the data, which are whole blocks. A last block that is not full is filled up with the
 * key stream, as OpenSSL does.
 */
function nextIv({ direction, mode, iv, data }: CipherRequest, out: Buffer, size: number): Buffer {
  if (size === 0 || mode === TPM_ALG.ECB) return Buffer.from(iv);
  if (mode === TPM_ALG.CTR) return advanced(iv, data.length / iv.length);
  const start = data.length - iv.length;
  const last = (bytes: Buffer): Buffer => Buffer.from(bytes.subarray(start));
  if (mode === TPM_ALG.OFB) return last(Buffer.from(data.map((byte, i) => byte ^ (out[i] ?? 0))));
  return direction === 'encrypt' ? last(out) : Buffer.concat([data.subarray(start, size), out.subarray(size)]);
}
