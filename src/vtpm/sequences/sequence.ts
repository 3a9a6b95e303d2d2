// TPM 2.0 Library Part 1, 32.5 to 32.7: hash, HMAC, CMAC and event sequences.
import { createSHA1, createSHA256, createSHA384, createSHA512, type IHasher } from 'hash-wasm';
import { Cmac } from '../../crypto/cmac.js';
import { TPM_ALG } from '../../tpm/constants/index.js';
import { blockSize, hash } from '../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';

const makers: Readonly<Record<number, (() => Promise<IHasher>) | undefined>> = {
  [TPM_ALG.SHA1]: createSHA1,
  [TPM_ALG.SHA256]: createSHA256,
  [TPM_ALG.SHA384]: createSHA384,
  [TPM_ALG.SHA512]: createSHA512,
};

/** What data goes into: a hash, or a CMAC. */
interface Accumulator {
  update(data: Buffer): unknown;
  digest(outputType: 'binary'): Uint8Array;
  save(): Uint8Array;
  load(state: Uint8Array): Accumulator;
  init(): unknown;
}

/** A hash whose state can be saved between two updates: node:crypto's cannot. */
async function hasher(alg: number): Promise<Accumulator> {
  const make = makers[alg];
  if (make === undefined) throw new TpmError(TPM_RC.HASH);
  return (await make()).init();
}

/** Hash state per algorithm, as {@link Sequence.save} gives it. */
export interface SavedSequence {
  readonly type: SequenceType;
  readonly authValue: Buffer;
  readonly states: readonly { readonly alg: number; readonly state: Buffer }[];
  /** Key of an HMAC sequence, padded to the block size, or of a CMAC sequence. */
  readonly macKey: Buffer;
  /** See {@link Sequence.head}. */
  readonly head: Buffer;
}

/** `hash` and `event` are of HashSequenceStart, the latter with a NULL hash; `hmac` and `cmac` of HMAC_Start, which is also MAC_Start. */
export type SequenceType = 'hash' | 'hmac' | 'event' | 'cmac';

const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;
/** Bytes of TPM_GENERATED_VALUE. */
const HEAD_SIZE = 4;

/** A sequence object: data comes in pieces, the digest at the end. */
export class Sequence {
  readonly kind = 'sequence';
  readonly type: SequenceType;
  readonly authValue: Buffer;
  /**
   * The first four bytes of the first piece of data: a restricted key may not sign what begins like an attestation. One zero byte if
   * that piece was shorter, so that nobody can tell; empty before it.
   */
  head: Buffer;
  /** Rises with every piece of data. */
  revision = 0;
  private readonly hashers: ReadonlyMap<number, Accumulator>;
  private readonly macKey: Buffer;

  private constructor(type: SequenceType, authValue: Buffer, hashers: ReadonlyMap<number, Accumulator>, macKey: Buffer, head: Buffer) {
    this.type = type;
    this.authValue = authValue;
    this.hashers = hashers;
    this.macKey = macKey;
    this.head = head;
  }

  /** A hash sequence over one algorithm, or an event sequence over several. */
  static async start(type: 'hash' | 'event', algs: readonly number[], authValue: Buffer): Promise<Sequence> {
    const hashers = new Map<number, Accumulator>();
    for (const alg of algs) hashers.set(alg, await hasher(alg));
    return new Sequence(type, authValue, hashers, Buffer.alloc(0), Buffer.alloc(0));
  }

  /** An HMAC sequence. The key is copied. */
  static async startHmac(alg: number, key: Buffer, authValue: Buffer): Promise<Sequence> {
    const padded = Buffer.alloc(blockSize(alg));
    (key.length > padded.length ? hash(alg, key) : key).copy(padded);
    const inner = await hasher(alg);
    inner.update(pad(padded, INNER_PAD));
    return new Sequence('hmac', authValue, new Map([[alg, inner]]), padded, Buffer.alloc(0));
  }

  /** A CMAC sequence. The key is copied. */
  static startCmac(algorithm: number, key: Buffer, authValue: Buffer): Sequence {
    const own = Buffer.from(key);
    return new Sequence('cmac', authValue, new Map([[algorithm, new Cmac(algorithm, own)]]), own, Buffer.alloc(0));
  }

  /** Algorithms of the digests, one except in an event sequence. */
  get algs(): number[] {
    return [...this.hashers.keys()];
  }

  update(data: Buffer): void {
    if (this.head.length === 0) this.head = data.length < HEAD_SIZE ? Buffer.of(0) : Buffer.from(data.subarray(0, HEAD_SIZE));
    this.revision++;
    for (const state of this.hashers.values()) state.update(data);
  }

  /** The digests; the sequence is not used after that. */
  complete(): { alg: number; digest: Buffer }[] {
    return [...this.hashers].map(([alg, state]) => {
      const digest = Buffer.from(state.digest('binary'));
      return { alg, digest: this.type === 'hmac' ? hash(alg, pad(this.macKey, OUTER_PAD), digest) : digest };
    });
  }

  save(): SavedSequence {
    const states = [...this.hashers].map(([alg, state]) => ({ alg, state: Buffer.from(state.save()) }));
    return { type: this.type, authValue: this.authValue, states, macKey: this.macKey, head: this.head };
  }

  static async restore(saved: SavedSequence): Promise<Sequence> {
    const hashers = new Map<number, Accumulator>();
    for (const { alg, state } of saved.states) {
      const empty = saved.type === 'cmac' ? new Cmac(alg, saved.macKey) : await hasher(alg);
      hashers.set(alg, empty.load(state));
    }
    return new Sequence(saved.type, saved.authValue, hashers, saved.macKey, saved.head);
  }

  dispose(): void {
    this.macKey.fill(0);
    for (const state of this.hashers.values()) state.init();
  }
}

function pad(key: Buffer, byte: number): Buffer {
  return Buffer.from(key.map((value) => value ^ byte));
}
