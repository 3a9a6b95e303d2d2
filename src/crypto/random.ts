// TPM 2.0 Library Part 1, 11.4.11: the random number generator of one vTPM.
import { createHmac, randomBytes } from 'node:crypto';

const KEY_BYTES = 64;

/**
 * The generator behind `GetRandom`, nonces and key generation of one vTPM. Its output is the operating system's randomness
 * XORed with an HMAC-SHA-512 stream from a pool that `StirRandom` feeds, so neither source can weaken the other. The pool's key is
 * replaced after every use: what is in memory does not tell earlier output.
 */
export class RandomSource {
  private readonly key: Buffer = randomBytes(KEY_BYTES);

  /** `size` random bytes. */
  randomBytes(size: number): Buffer {
    const out = randomBytes(size);
    for (let at = 0, counter = 0; at < size; at += KEY_BYTES, counter++) {
      const block = this.derive('output', Buffer.from(Uint32Array.of(counter).buffer));
      for (let i = 0; i < Math.min(KEY_BYTES, size - at); i++) out[at + i] = (out[at + i] ?? 0) ^ (block[i] ?? 0);
      block.fill(0);
    }
    this.ratchet(Buffer.alloc(0));
    return out;
  }

  /** Mixes a caller's data into the pool. */
  stir(data: Uint8Array): void {
    this.ratchet(data);
  }

  /** Zeroizes the pool. The object is not used after that. */
  dispose(): void {
    this.key.fill(0);
  }

  private ratchet(data: Uint8Array): void {
    const next = this.derive('ratchet', data);
    next.copy(this.key);
    next.fill(0);
  }

  private derive(use: string, data: Uint8Array): Buffer {
    return createHmac('sha512', this.key).update(use).update(data).digest();
  }
}

/** What draws random bytes: the system's generator, one vTPM's, or a deterministic stream. */
export type RandomBytes = (size: number) => Buffer;

/**
 * A deterministic stream of bytes: a function of a secret seed, a context and a label alone (HMAC-SHA-512 in counter mode). Keys
 * of the NULL hierarchy and derived keys are made from it.
 */
export class DerivationStream {
  private readonly key: Buffer;
  private block = Buffer.alloc(0);
  private counter = 0;

  constructor(seed: Uint8Array, context: Uint8Array, label: string) {
    const size = Buffer.alloc(4);
    size.writeUInt32BE(context.length);
    this.key = createHmac('sha512', seed).update(size).update(context).update(label).digest();
  }

  /** The next `size` bytes. */
  readonly bytes: RandomBytes = (size) => {
    const out = Buffer.alloc(size);
    for (let at = 0; at < size;) {
      if (this.block.length === 0) this.refill();
      const taken = this.block.copy(out, at);
      this.block = this.block.subarray(taken);
      at += taken;
    }
    return out;
  };

  /** Zeroizes the state. The object is not used after that. */
  dispose(): void {
    this.key.fill(0);
    this.block.fill(0);
  }

  private refill(): void {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(this.counter++);
    this.block = createHmac('sha512', this.key).update(counter).digest();
  }
}
