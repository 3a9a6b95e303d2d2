// TPM 2.0 Library Part 1, C.2.3 and C.6.3: ephemeral keys that two commands share. The TPM keeps a counter, not the keys: each is derived
// from the number that the first command gave out.
import { randomBytes } from 'node:crypto';
import { randomScalar, toBytes } from '../../crypto/big-integer.js';
import type { Curve } from '../../crypto/ecc-curves.js';
import { TPM_ALG } from '../../tpm/constants/index.js';
import { KDFa } from '../../tpm/kdf.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { type Infer, struct, tpm2b, uint64 } from '../../tpm/schema.js';
import { type Origin, section, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';

/** How many of the last commits can be used (TPM_PT_SPLIT_MAX). A power of two, so that a number tells its place. */
export const COMMIT_WINDOW = 128;
const NONCE_SIZE = 64;
const NUMBERS = 0x10000n;
const none = Buffer.alloc(0);

/** What Shutdown(STATE) keeps. */
export const savedCommits = struct({ nonce: tpm2b(NONCE_SIZE), next: uint64, open: tpm2b(COMMIT_WINDOW / 8) });
export type SavedCommits = Infer<typeof savedCommits>;
const commitsSection = section('commits', savedCommits);

/** The commit counter of one vTPM; new with each TPM reset. */
export class Commits implements StateModule {
  private nonce = randomBytes(NONCE_SIZE);
  private next = 0n;
  /** Commits that were not used yet, by their whole number. */
  private open = new Set<bigint>();
  /** How often one was used. */
  private ended = 0;

  /** The ephemeral private key that the next {@link commit} will stand for, bound to the Name of a key if given. To be zeroized. */
  upcoming(curve: Curve, name: Buffer = none): Buffer {
    return this.derive(this.next, curve, name);
  }

  /** Gives out a number for what {@link upcoming} was. */
  commit(): number {
    const number = this.next;
    this.open.add(number);
    this.open.delete(number - BigInt(COMMIT_WINDOW));
    this.next++;
    return Number(number % NUMBERS);
  }

  /** The ephemeral private key of a commit. `TPM_RC_VALUE`, bare, if the number was not given out, is used, or is too old. */
  use(counter: number, curve: Curve, name: Buffer = none): Buffer {
    const number = this.find(counter);
    if (number === undefined) throw new TpmError(TPM_RC.VALUE);
    return this.derive(number, curve, name);
  }

  /** A commit was used: it cannot be again. */
  end(counter: number): void {
    const number = this.find(counter);
    if (number === undefined) return;
    this.open.delete(number);
    this.ended++;
  }

  save(): SavedCommits {
    const open = Buffer.alloc(COMMIT_WINDOW / 8);
    for (const number of this.open) {
      const place = Number(this.next - 1n - number);
      open[place >> 3] = (open[place >> 3] ?? 0) | (1 << (place & 7));
    }
    return { nonce: this.nonce, next: this.next, open };
  }

  restore({ nonce, next, open }: SavedCommits): void {
    this.nonce = Buffer.from(nonce);
    this.next = next;
    const places = Array.from({ length: COMMIT_WINDOW }, (_, place) => place).filter(
      (place) => ((open[place >> 3] ?? 0) & (1 << (place & 7))) !== 0,
    );
    this.open = new Set(places.map((place) => next - 1n - BigInt(place)));
  }

  writeSections(writer: SectionWriter): void {
    writer.one(commitsSection, () => this.save(), [this.nonce, this.next, this.ended]);
  }

  /**
   * In state that may be an older one nothing is open, and every number stands for another key from now on: a key that had been used since
   * would be used a second time, and two signatures with it give the signer's private key away. In the newest state they are as they
   * were: a command whose record is missing has not been answered, so no signature of it is known.
   */
  readSections(reader: SectionReader, { mayBeOlder }: Origin): void {
    const saved = reader.one(commitsSection);
    this.restore(mayBeOlder ? spent(saved) : saved);
  }

  private find(counter: number): bigint | undefined {
    return [...this.open].find((number) => number % NUMBERS === BigInt(counter));
  }

  private derive(number: bigint, curve: Curve, name: Buffer): Buffer {
    const context = Buffer.alloc(8);
    context.writeBigUInt64BE(number);
    const draw = (size: number): Buffer => KDFa(TPM_ALG.SHA512, this.nonce, 'ECDAA Commit', name, context, size * 8);
    return toBytes(randomScalar(curve.n, draw), curve.orderBytes);
  }
}

/** Commits none of which is open; their numbers go on. */
export function spent({ next }: SavedCommits): SavedCommits {
  return { nonce: randomBytes(NONCE_SIZE), next, open: Buffer.alloc(COMMIT_WINDOW / 8) };
}
