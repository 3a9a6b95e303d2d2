// What the entries of a log show: each stands for a thing that somebody stated something about, or the evidence is refused.
import { FIXED_VALUES, fixedValue } from '../statements/fixed-value.js';
import { canonicalJson } from '../statements/canonical-json.js';
import { PropertySet, type Property } from '../statements/property-set.js';
import type { DigestName } from '../statements/statement.js';
import type { Evidence, EvidenceEntry } from './evidence.js';
import type { CheckedStatement, EvidenceStatements } from './statements.js';
import { VerificationError } from './verification-error.js';

/** The provider whose entries stand for property sets; those of all others stand for the things themselves. */
export const SET_PROVIDER = 'certified';

/** A bank that is appraised. */
export interface AppraisedBank {
  readonly bank: number;
  readonly name: DigestName;
}

/** What one measurement shows. */
export interface ShownMeasurement {
  readonly pcr: number;
  /** Number of the entry in the log. */
  readonly entry: number;
  /** Digests of the thing by bank, in hexadecimal, if they are shown. */
  readonly measured: Readonly<Record<string, string>>;
  readonly properties: readonly Property[];
  readonly statements: readonly { readonly id: string; readonly issuer: string }[];
}

/** Appraises entries one by one. */
export class Appraiser {
  private readonly sets = new Map<string, PropertySet>();

  constructor(
    { propertySets }: Evidence,
    banks: readonly AppraisedBank[],
    private readonly statements: EvidenceStatements,
  ) {
    for (const document of propertySets) {
      const set = new PropertySet(Object.entries(document).flatMap(([name, values]) => values.map((value) => ({ name, value }))));
      for (const { bank, name } of banks) this.sets.set(`${name}:${set.digest(bank).toString('hex')}`, set);
    }
  }

  /**
   * What an entry shows in a bank; undefined if it is not about that bank. Rejects with {@link VerificationError} `unknown_measurement`,
   * `statement_mismatch`, or as {@link EvidenceStatements.require} does.
   */
  async appraise(entry: EvidenceEntry, provider: string, { bank, name }: AppraisedBank): Promise<ShownMeasurement | undefined> {
    const hex = entry.translated[name];
    if (hex === undefined) return undefined;
    const where = `PCR ${entry.pcr.toString()}, entry ${entry.number.toString()} (${name})`;
    const digest = Buffer.from(hex, 'hex');
    const word = FIXED_VALUES.find((one) => digest.equals(fixedValue(bank, one)));
    if (word !== undefined) throw unknown(where, `the provider called it ${word}`);
    const set = provider === SET_PROVIDER ? this.sets.get(`${name}:${hex}`) : undefined;
    if (provider === SET_PROVIDER && set === undefined) throw unknown(where, 'it is unknown, or its properties are not shown');
    if (entry.statements.length === 0) throw unknown(where, 'no statement about it is shown');
    const shown = provider === SET_PROVIDER ? entry.measured?.[name] : hex;
    const about = shown === undefined ? undefined : { bank, digest: Buffer.from(shown, 'hex') };
    const checked: CheckedStatement[] = [];
    for (const id of entry.statements) checked.push(await this.checked(where, id, about));
    const stated = new PropertySet(checked.flatMap(({ set: one }) => one.properties));
    if (set !== undefined) requireStated(where, set, stated);
    return {
      pcr: entry.pcr,
      entry: entry.number,
      measured: shown === undefined ? {} : { [name]: shown },
      properties: (set ?? stated).properties,
      statements: checked.map(({ statement: { id, issuer } }) => ({ id, issuer })),
    };
  }

  private async checked(where: string, id: string, about: { bank: number; digest: Buffer } | undefined): Promise<CheckedStatement> {
    try {
      return await this.statements.require(id, about);
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error;
      throw new VerificationError(error.reason, `${where}: ${error.message}`, { cause: error });
    }
  }
}

/** Every property that an entry stands for must have been stated by somebody who may. */
function requireStated(where: string, set: PropertySet, stated: PropertySet): void {
  const texts = new Set(stated.properties.map(canonical));
  const missing = set.properties.find((property) => !texts.has(canonical(property)));
  if (missing === undefined) return;
  throw new VerificationError(
    'statement_mismatch',
    `${where}: no statement that is shown says ${missing.name}=${missing.value.toString()}`,
  );
}

const canonical = ({ name, value }: Property): string => canonicalJson([name, value]);

function unknown(where: string, why: string): VerificationError {
  return new VerificationError('unknown_measurement', `${where}: ${why}`);
}
