// Statements by the digests that they are about, and what holds of a digest at a moment.
import { DIGEST_BANKS, DIGEST_NAMES, type PropertyStatement } from './statement.js';
import { PropertySet } from './property-set.js';
import type { RevocationList } from './revocation.js';
import { PropertyError, type PropertyErrorCode } from './property-error.js';

/** A statement as it is kept: its signature was checked, or `refusal` says why it does not count. */
export interface KeptStatement {
  readonly statement: PropertyStatement;
  readonly set: PropertySet;
  readonly refusal: { readonly code: PropertyErrorCode; readonly why: string } | undefined;
}

/** Why a statement does not count at a moment; undefined if it does. */
export type Verdict = { readonly code: PropertyErrorCode; readonly why: string } | undefined;

/** All that one issuer revoked. */
export interface IssuerRevocations {
  readonly number: number;
  readonly statements: ReadonlyMap<string, string>;
  /** Reasons by {@link digestKey}. */
  readonly digests: ReadonlyMap<string, string>;
}

/** The revocations in force, by issuer. */
export type Revocations = ReadonlyMap<string, IssuerRevocations>;

/** The key of a digest in the index: bank and digest as text of one byte per character. */
export function digestKey(bank: number, digest: Buffer): string {
  return `${String.fromCharCode(bank)}${digest.toString('latin1')}`;
}

/** The keys of all digests of a statement's subjects. */
export function keysOf({ subjects }: PropertyStatement): string[] {
  return subjects.flatMap(({ digest }) =>
    DIGEST_NAMES.flatMap((name) => {
      const hex = digest[name];
      return hex === undefined ? [] : [digestKey(DIGEST_BANKS[name], Buffer.from(hex, 'hex'))];
    }),
  );
}

/**
 * The statements of a host at a moment. It never changes: a guest goes by the snapshot of its last reset until its next one.
 * Times of validity count as of the moment when the snapshot was taken.
 */
export class StatementSnapshot {
  constructor(
    /** Tells snapshots of one daemon apart. */
    readonly id: string,
    /** Milliseconds since 1970. */
    readonly time: number,
    private readonly index: ReadonlyMap<string, readonly KeptStatement[]>,
    private readonly revocations: Revocations,
    /** Issuers whose revocation lists are known to be missing, so that nothing that they stated counts. */
    private readonly withoutRevocations: ReadonlySet<string>,
  ) {}

  /** The properties of a digest; undefined if no statement about it is in force. Takes constant time. */
  lookup(bank: number, digest: Buffer): PropertySet | undefined {
    const key = digestKey(bank, digest);
    const kept = this.index.get(key);
    if (kept === undefined) return undefined;
    const [only] = kept;
    if (kept.length === 1 && only !== undefined) return this.verdict(only, key) === undefined ? only.set : undefined;
    const inForce = kept.filter((each) => this.verdict(each, key) === undefined).map(({ set }) => set);
    const [first, ...others] = inForce;
    return others.length === 0 ? first : first?.union(others);
  }

  /** The statements in force about a digest. */
  inForce(bank: number, digest: Buffer): KeptStatement[] {
    return this.explain(bank, digest).flatMap(({ kept, verdict }) => (verdict === undefined ? [kept] : []));
  }

  /** All statements about a digest, each with the reason why it does not count. */
  explain(bank: number, digest: Buffer): { readonly kept: KeptStatement; readonly verdict: Verdict }[] {
    const key = digestKey(bank, digest);
    return (this.index.get(key) ?? []).map((kept) => ({ kept, verdict: this.verdict(kept, key) }));
  }

  /** Whether a statement counts, for the digest with the given key if one is given. */
  verdict({ statement, refusal }: KeptStatement, key?: string): Verdict {
    if (refusal !== undefined) return refusal;
    const { id, issuer, notBefore, notAfter } = statement;
    if (this.time < notBefore) return { code: 'not_yet_valid', why: `it is valid from ${new Date(notBefore).toISOString()} on` };
    if (this.time >= notAfter) return { code: 'expired', why: `it was valid until ${new Date(notAfter).toISOString()}` };
    if (this.withoutRevocations.has(issuer)) {
      return { code: 'revocations_missing', why: `the newest revocation list of issuer ${issuer} is missing` };
    }
    const revoked = this.revocations.get(issuer);
    const reason = revoked?.statements.get(id) ?? (key === undefined ? undefined : revoked?.digests.get(key));
    return reason === undefined ? undefined : { code: 'revoked', why: `its issuer revoked it${reason === '' ? '' : `: ${reason}`}` };
  }
}

/** All that a list revokes, for a look-up. */
export function revocationsOf({ number, revoked }: RevocationList): IssuerRevocations {
  const statements = new Map<string, string>();
  const digests = new Map<string, string>();
  for (const revocation of revoked) {
    if ('statement' in revocation) statements.set(revocation.statement, revocation.reason);
    else {
      for (const name of DIGEST_NAMES) {
        const hex = revocation.digest[name];
        if (hex !== undefined) digests.set(digestKey(DIGEST_BANKS[name], Buffer.from(hex, 'hex')), revocation.reason);
      }
    }
  }
  return { number, statements, digests };
}

/** The changing index that snapshots are taken of. What a snapshot holds is copied before it is changed. */
export class StatementIndex {
  private byId = new Map<string, KeptStatement>();
  private byDigest = new Map<string, readonly KeptStatement[]>();
  private shared = false;
  private digests = 0;

  constructor(private readonly maxDigests: number) {}

  /** Number of statements. */
  get size(): number {
    return this.byId.size;
  }

  get(id: string): KeptStatement | undefined {
    return this.byId.get(id);
  }

  /** All statements, in the order in which they came. */
  values(): IterableIterator<KeptStatement> {
    return this.byId.values();
  }

  /** Adds a statement, or replaces the one of the same identifier. Throws {@link PropertyError} `too_many`. */
  add(kept: KeptStatement): void {
    const { id } = kept.statement;
    this.remove(id);
    const keys = keysOf(kept.statement);
    if (this.digests + keys.length > this.maxDigests) {
      throw new PropertyError('too_many', `statements about more than ${this.maxDigests.toString()} digests are not kept`);
    }
    const index = this.writable();
    for (const key of keys) {
      const others = index.get(key);
      index.set(key, others === undefined ? [kept] : [...others, kept]);
    }
    this.byId.set(id, kept);
    this.digests += keys.length;
  }

  /** Removes a statement; false if there is none. */
  remove(id: string): boolean {
    const kept = this.byId.get(id);
    if (kept === undefined) return false;
    const index = this.writable();
    const keys = keysOf(kept.statement);
    for (const key of keys) {
      const left = (index.get(key) ?? []).filter((each) => each !== kept);
      if (left.length === 0) index.delete(key);
      else index.set(key, left);
    }
    this.byId.delete(id);
    this.digests -= keys.length;
    return true;
  }

  /** For a snapshot. */
  share(): ReadonlyMap<string, readonly KeptStatement[]> {
    this.shared = true;
    return this.byDigest;
  }

  private writable(): Map<string, readonly KeptStatement[]> {
    if (this.shared) {
      this.byDigest = new Map(this.byDigest);
      this.shared = false;
    }
    return this.byDigest;
  }
}
