// Makes evidence of a guest's measurement log: what the guest's policy lets others see, and no more.
import type { ExportedEntry, ExportedLog } from '../properties/measurement-log/export.js';
import { foldLog } from '../properties/measurement-log/export.js';
import type { Property, PropertySet } from '../statements/property-set.js';
import type { KeptStatement } from '../statements/statement-index.js';
import { DIGEST_BANKS, DIGEST_NAMES, withOpenings, type DigestName, type DigestSet } from '../statements/statement.js';
import { EVIDENCE_TYPE, type Evidence, type EvidenceEntry, type EvidencePcr } from '../verifier/evidence.js';
import { SET_PROVIDER } from '../verifier/appraise.js';

/** What is known about digests, by the statements that the guest goes by. */
export interface KnownProperties {
  /** The property set that `certified` took a digest for. */
  set(bank: number, digest: Buffer): PropertySet | undefined;
  /** The statements that it rests on. */
  statements(bank: number, digest: Buffer): readonly KeptStatement[];
  /** The envelope of a statement; undefined if it is not kept any more. */
  envelope(id: string): string | undefined;
}

/** What others may see. */
interface Revealed {
  /** Whether a property may be shown. */
  property(name: string): boolean;
  /** Whether digests of what was measured may be shown. */
  readonly digests: boolean;
}

/** What evidence is made of. */
export interface EvidenceSource {
  readonly log: ExportedLog;
  /** The provider whose vector is quoted at a PCR index. */
  readonly vector: (index: number) => string;
  readonly known: KnownProperties;
  readonly revealed: Revealed;
}

/** Evidence, and how much of what it rests on was held back. */
export interface BuiltEvidence {
  readonly evidence: Evidence;
  /** Entries that a verifier cannot take for anything known, because of what may not be shown. */
  readonly withheld: number;
}

/** Makes evidence. Where digests are hidden, vectors that consist of them come without entries: as the values that they have. */
export function buildEvidence(source: EvidenceSource): BuiltEvidence {
  const { log, vector } = source;
  const builder = new Builder(source);
  const pcrs = log.pcrs.map(({ pcr, complete, base }): EvidencePcr => {
    const provider = vector(pcr);
    if (builder.shows(provider)) return { pcr, provider, complete, base: { ...base[provider] } };
    return { pcr, provider, complete: false, base: valuesOf(log, provider, pcr) };
  });
  const entries = log.entries.filter(({ pcr }) => builder.shows(vector(pcr))).flatMap((entry) => builder.entry(entry, vector(entry.pcr)));
  const { propertySets, statements, withheld } = builder;
  return { evidence: { type: EVIDENCE_TYPE, pcrs, entries, propertySets, statements: [...statements] }, withheld };
}

function valuesOf(log: ExportedLog, provider: string, pcr: number): DigestSet {
  return Object.fromEntries(
    DIGEST_NAMES.flatMap((name) => {
      const value = foldLog(log, provider, DIGEST_BANKS[name], pcr);
      return value === undefined ? [] : [[name, value.toString('hex')]];
    }),
  );
}

class Builder {
  readonly propertySets: Evidence['propertySets'] = [];
  withheld = 0;
  private readonly sets = new Set<string>();
  private readonly envelopes = new Map<string, { text: string; readonly shown: Set<string> } | undefined>();

  constructor(private readonly source: EvidenceSource) {}

  /** Envelopes, with the openings of what is shown as measured. */
  get statements(): string[] {
    return [...this.envelopes.values()].flatMap((kept) => {
      if (kept === undefined) return [];
      return [withOpenings(kept.text, ({ digest }) => DIGEST_NAMES.some((name) => kept.shown.has(`${name}:${digest[name] ?? ''}`)))];
    });
  }

  /** Whether the entries of a provider's vector can be shown: those of all but `certified` are what was measured. */
  shows(provider: string): boolean {
    return this.source.revealed.digests || provider === SET_PROVIDER;
  }

  entry({ number, kind, pcr, translated, measured = {} }: ExportedEntry, provider: string): EvidenceEntry[] {
    const values = translated[provider];
    if (values === undefined) return [];
    const things = provider === SET_PROVIDER ? measured : values;
    const statements = new Set<string>();
    let known = false;
    for (const name of DIGEST_NAMES) {
      const [thing, value] = [things[name], values[name]];
      if (thing === undefined || value === undefined) continue;
      if (provider === SET_PROVIDER && !this.addSet(name, thing, value)) continue;
      known = true;
      for (const id of this.statementsOf(name, thing)) statements.add(id);
    }
    if (known && statements.size === 0) this.withheld++;
    const shown = provider === SET_PROVIDER && this.source.revealed.digests && kind === 'extend';
    return [{ number, kind, pcr, translated: { ...values }, ...(shown && { measured: { ...measured } }), statements: [...statements] }];
  }

  /** Shows the property set that a thing was taken for; false if it is unknown or may not be shown. */
  private addSet(name: DigestName, thing: string, value: string): boolean {
    const { known, revealed } = this.source;
    const set = known.set(DIGEST_BANKS[name], Buffer.from(thing, 'hex'));
    // Statements may have changed since it was measured; the log says what counted then.
    if (set?.digest(DIGEST_BANKS[name]).toString('hex') !== value) return false;
    if (!set.properties.every((property) => revealed.property(property.name))) {
      this.withheld++;
      return false;
    }
    if (!this.sets.has(set.canonical)) {
      this.sets.add(set.canonical);
      const document = new Map<string, Property['value'][]>();
      for (const { name: property, value: one } of set.properties) document.set(property, [...(document.get(property) ?? []), one]);
      this.propertySets.push(Object.fromEntries(document));
    }
    return true;
  }

  /** The statements about a thing that may be shown. */
  private statementsOf(name: DigestName, thing: string): string[] {
    const { known } = this.source;
    return known.statements(DIGEST_BANKS[name], Buffer.from(thing, 'hex')).flatMap((kept) => {
      const { id } = kept.statement;
      if (!this.envelopes.has(id)) {
        const text = this.mayShow(kept) ? known.envelope(id) : undefined;
        this.envelopes.set(id, text === undefined ? undefined : { text, shown: new Set() });
      }
      const envelope = this.envelopes.get(id);
      if (envelope === undefined) return [];
      if (this.source.revealed.digests) envelope.shown.add(`${name}:${thing}`);
      return [id];
    });
  }

  private mayShow({ statement, set }: KeptStatement): boolean {
    const { revealed } = this.source;
    return (revealed.digests || statement.hidesSubjects) && set.properties.every(({ name }) => revealed.property(name));
  }
}
