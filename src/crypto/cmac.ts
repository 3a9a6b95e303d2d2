// NIST SP 800-38B: CMAC, a MAC by a block cipher. node:crypto has none whose state can be saved.
import { cipherBlockSize } from '../tpm/block-cipher.js';
import { TPM_ALG } from '../tpm/constants/index.js';
import { cryptBlocks } from './symmetric.js';

/** What is added to a subkey whose first bit was shifted out, by block size. */
const POLYNOMIAL: Readonly<Record<number, number>> = { 8: 0x1b, 16: 0x87 };

/** A CMAC over data that comes in pieces. */
export class Cmac {
  private readonly algorithm: number;
  private readonly key: Buffer;
  private readonly blockSize: number;
  private chain: Buffer;
  /** The last bytes, up to a block of them, which are treated in another way if they are the end. */
  private pending = Buffer.alloc(0);

  /** @param algorithm a block cipher; @param key it is not copied. `TPM_RC_SYMMETRIC`, `TPM_RC_KEY_SIZE` when it is used. */
  constructor(algorithm: number, key: Buffer) {
    this.algorithm = algorithm;
    this.key = key;
    this.blockSize = cipherBlockSize(algorithm);
    this.chain = Buffer.alloc(this.blockSize);
  }

  update(data: Uint8Array): void {
    const all = Buffer.concat([this.pending, data]);
    const whole = Math.max(0, Math.ceil(all.length / this.blockSize) - 1) * this.blockSize;
    if (whole > 0) this.chain = this.encrypt(all.subarray(0, whole));
    this.pending = Buffer.from(all.subarray(whole));
    all.fill(0);
  }

  /** One block. */
  digest(): Buffer {
    const { algorithm, key, blockSize, pending } = this;
    const request = {
      direction: 'encrypt',
      algorithm,
      mode: TPM_ALG.ECB,
      key,
      iv: Buffer.alloc(0),
      data: Buffer.alloc(blockSize),
    } as const;
    const { data: zero } = cryptBlocks(request);
    let subkey = doubled(zero);
    const last = Buffer.alloc(blockSize);
    pending.copy(last);
    if (pending.length < blockSize) {
      subkey = doubled(subkey);
      last[pending.length] = 0x80;
    }
    return this.encrypt(Buffer.from(last.map((byte, i) => byte ^ (subkey[i] ?? 0))));
  }

  /** Chaining value and the bytes that wait. */
  save(): Buffer {
    return Buffer.concat([this.chain, this.pending]);
  }

  /** Takes what {@link save} gave. */
  load(state: Uint8Array): this {
    this.chain = Buffer.from(state.subarray(0, this.blockSize));
    this.pending = Buffer.from(state.subarray(this.blockSize));
    return this;
  }

  /** Starts over. */
  init(): this {
    return this.load(Buffer.alloc(this.blockSize));
  }

  private encrypt(data: Buffer): Buffer {
    const { algorithm, key, chain: iv } = this;
    return cryptBlocks({ direction: 'encrypt', algorithm, mode: TPM_ALG.CBC, key, iv, data }).iv;
  }
}

/** Twice a subkey, as an element of the field that its size belongs to. */
function doubled(subkey: Buffer): Buffer {
  const shifted = Buffer.from(subkey.map((byte, i) => (byte << 1) | ((subkey[i + 1] ?? 0) >> 7)));
  const last = subkey.length - 1;
  if (((subkey[0] ?? 0) & 0x80) !== 0) shifted[last] = (shifted[last] ?? 0) ^ (POLYNOMIAL[subkey.length] ?? 0);
  return shifted;
}

/** CMAC of `data` at once. */
export function cmac(algorithm: number, key: Buffer, data: Uint8Array): Buffer {
  const state = new Cmac(algorithm, key);
  state.update(data);
  return state.digest();
}
