// The statements in evidence, each checked by what the verifier trusts.
import { parseEnvelope, type Envelope } from '../statements/dsse.js';
import { PropertyError, type PropertyErrorCode } from '../statements/property-error.js';
import { PropertySet } from '../statements/property-set.js';
import { readRevocations, type RevocationList } from '../statements/revocation.js';
import { digestKey, keysOf, revocationsOf, StatementSnapshot, type IssuerRevocations } from '../statements/statement-index.js';
import { readStatement, type PropertyStatement } from '../statements/statement.js';
import { Trust, type TrustRoot } from '../statements/trust.js';
import { VerificationError, type RejectionReason } from './verification-error.js';

/** A key that the verifier trusts; without `issuer`, whatever name the issuer gives itself. */
export type VerifierRoot = Omit<TrustRoot, 'issuer'> & { readonly issuer?: string | undefined };

/** What a verifier goes by. */
export interface VerifierTrust {
  readonly roots: readonly VerifierRoot[];
  /** Revocation lists as they were signed; of several of one issuer the newest counts. */
  readonly revocations: readonly string[];
  /** Milliseconds since 1970 at which statements must be valid. */
  readonly time: number;
}

/** A statement that counts. */
export interface CheckedStatement {
  readonly statement: PropertyStatement;
  readonly set: PropertySet;
}

const REASONS: Partial<Record<PropertyErrorCode, RejectionReason>> = {
  malformed: 'malformed',
  property_not_allowed: 'property_not_allowed',
  not_yet_valid: 'not_yet_valid',
  expired: 'expired',
  revoked: 'revoked',
};

/** The statements of one piece of evidence. They are checked when they are first asked for. */
export class EvidenceStatements {
  private readonly envelopes = new Map<string, { readonly envelope: Envelope; readonly statement: PropertyStatement }>();
  private readonly checked = new Map<string, CheckedStatement>();

  private constructor(
    private readonly roots: readonly VerifierRoot[],
    private readonly snapshot: StatementSnapshot,
  ) {}

  /** Reads statements and lists. Rejects with {@link VerificationError} `malformed`, `untrusted_statement` if a list is not its issuer's. */
  static async open(texts: readonly string[], { roots, revocations, time }: VerifierTrust): Promise<EvidenceStatements> {
    const lists = new Map<string, IssuerRevocations>();
    for (const text of revocations) {
      const { list, envelope } = readAs('a revocation list', () => readList(text));
      await checkedBy('a revocation list', trustFor(roots, list.issuer).checkRevocations(envelope, list.issuer));
      if ((lists.get(list.issuer)?.number ?? 0) < list.number) lists.set(list.issuer, revocationsOf(list));
    }
    const snapshot = new StatementSnapshot('', time, new Map(), lists, new Set());
    const statements = new EvidenceStatements(roots, snapshot);
    for (const text of texts) {
      const envelope = readAs('a statement', () => parseEnvelope(text));
      const statement = readAs('a statement', () => readStatement(envelope));
      statements.envelopes.set(statement.id, { envelope, statement });
    }
    return statements;
  }

  /**
   * A statement that counts, for a thing with the digest if one is given. Rejects with {@link VerificationError}: `statement_mismatch` if it
   * is not there or not about that thing, `untrusted_statement`, `property_not_allowed`, `not_yet_valid`, `expired`, `revoked`.
   */
  async require(id: string, about: { readonly bank: number; readonly digest: Buffer } | undefined): Promise<CheckedStatement> {
    const found = this.envelopes.get(id);
    const name = `statement ${id.slice(0, 16)}`;
    if (found === undefined) throw new VerificationError('statement_mismatch', `the evidence lacks ${name}, which its log names`);
    const key = about === undefined ? undefined : digestKey(about.bank, about.digest);
    if (key !== undefined && !keysOf(found.statement).includes(key)) {
      throw new VerificationError('statement_mismatch', `${name} is not about what was measured`);
    }
    const checked = this.checked.get(id) ?? (await this.check(name, found));
    this.checked.set(id, checked);
    const verdict = this.snapshot.verdict({ ...checked, refusal: undefined }, key);
    if (verdict !== undefined) throw rejection(name, verdict.code, verdict.why);
    return checked;
  }

  private async check(
    name: string,
    { envelope, statement }: { envelope: Envelope; statement: PropertyStatement },
  ): Promise<CheckedStatement> {
    await checkedBy(name, trustFor(this.roots, statement.issuer).checkStatement(envelope, statement));
    return { statement, set: PropertySet.of(statement.properties) };
  }
}

function trustFor(roots: readonly VerifierRoot[], issuer: string): Trust {
  return new Trust(roots.map((root) => ({ ...root, issuer: root.issuer ?? issuer })));
}

function readList(text: string): { readonly envelope: Envelope; readonly list: RevocationList } {
  const envelope = parseEnvelope(text);
  return { envelope, list: readRevocations(envelope) };
}

function readAs<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof PropertyError)) throw error;
    throw rejection(what, error.code, error.message);
  }
}

async function checkedBy(what: string, check: Promise<void>): Promise<void> {
  try {
    await check;
  } catch (error) {
    if (!(error instanceof PropertyError)) throw error;
    throw rejection(what, error.code, error.message);
  }
}

function rejection(what: string, code: PropertyErrorCode, why: string): VerificationError {
  return new VerificationError(REASONS[code] ?? 'untrusted_statement', `${what}: ${why}`);
}
