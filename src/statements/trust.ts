// Whose statements count, and about which properties.
import { setImmediate } from 'node:timers/promises';
import { signersOf, type Envelope } from './dsse.js';
import { PropertyError } from './property-error.js';
import { matchesPattern } from './property-set.js';
import type { VerificationKey } from './signing-keys.js';
import type { PropertyStatement } from './statement.js';

/** A key of an issuer; an issuer may have several. */
export interface TrustRoot {
  readonly issuer: string;
  readonly key: VerificationKey;
  /** Patterns of the properties that this key may state; `*` stands for any text. */
  readonly allowed: readonly string[];
}

/** The trust roots of a host. */
export class Trust {
  constructor(readonly roots: readonly TrustRoot[]) {}

  /**
   * Checks who signed a statement, and whether they may say it. Throws {@link PropertyError} `untrusted_key`, `bad_signature`,
   * `issuer_mismatch` or `property_not_allowed`. Times and revocations are another matter.
   */
  requireStatement(envelope: Envelope, { issuer, properties }: PropertyStatement): void {
    const allowed = this.signers(envelope, issuer).flatMap((root) => root.allowed);
    const foreign = Object.keys(properties).find((name) => !allowed.some((pattern) => matchesPattern(pattern, name)));
    if (foreign !== undefined) throw new PropertyError('property_not_allowed', `issuer ${issuer} may not state property ${foreign}`);
  }

  /** As {@link requireStatement}, but rejects; other work is done before. */
  async checkStatement(envelope: Envelope, statement: PropertyStatement): Promise<void> {
    await setImmediate();
    this.requireStatement(envelope, statement);
  }

  /** Checks that a revocation list is its issuer's. Rejects as {@link checkStatement}. */
  async checkRevocations(envelope: Envelope, issuer: string): Promise<void> {
    await setImmediate();
    this.signers(envelope, issuer);
  }

  private signers(envelope: Envelope, issuer: string): TrustRoot[] {
    const roots = this.roots.filter((root) => root.issuer === issuer);
    const signers = signersOf(
      envelope,
      roots.map(({ key }) => key),
    );
    if (signers.length > 0) return roots.filter(({ key }) => signers.includes(key));
    const named = new Set(envelope.signatures.map(({ keyid }) => keyid));
    const known = this.roots.filter(({ key }) => named.has(key.keyid));
    const [other] = known;
    if (known.some((root) => root.issuer === issuer)) {
      throw new PropertyError('bad_signature', `the signature of issuer ${issuer} is wrong: it was changed, or signed by another key`);
    }
    if (other !== undefined)
      throw new PropertyError('issuer_mismatch', `it names issuer ${issuer}, but is signed with a key of ${other.issuer}`);
    throw new PropertyError(
      'untrusted_key',
      roots.length === 0 ? `issuer ${issuer} is not trusted` : `it is not signed by a trusted key of issuer ${issuer}`,
    );
  }
}
