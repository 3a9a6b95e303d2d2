// What a measurement means: a set of properties, and the digest that stands for it in a PCR.
import { hash } from '../tpm/hash.js';
import { canonicalJson } from './canonical-json.js';
import type { Properties } from './properties.js';

/** Names the canonical document, so that its digest means nothing else. */
const PROPERTY_SET_TYPE = 'urn:tpmux:property-set:v1';

/** One property. */
export interface Property {
  readonly name: string;
  readonly value: Properties[string];
}

/** A set of properties; immutable. A name has several values where several statements say different things. */
export class PropertySet {
  /** Sorted by name, then by canonical text of the value. */
  readonly properties: readonly Property[];
  /**
   * RFC 8785 text of `{"properties": {name: [values]}, "type": "urn:tpmux:property-set:v1"}`. Equal sets have equal texts, whatever
   * order their properties came in.
   */
  readonly canonical: string;
  private readonly digests = new Map<number, Buffer>();

  constructor(properties: Iterable<Property>) {
    const values = new Map<string, Map<string, Property>>();
    for (const property of properties) {
      const ofName = values.get(property.name) ?? new Map<string, Property>();
      ofName.set(canonicalJson(property.value), property);
      values.set(property.name, ofName);
    }
    const names = [...values.keys()].sort();
    this.properties = names.flatMap((name) => {
      const ofName = values.get(name) ?? new Map<string, Property>();
      return [...ofName.keys()].sort().flatMap((text) => ofName.get(text) ?? []);
    });
    const document: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
    for (const { name, value } of this.properties) document[name] = [...((document[name] as unknown[] | undefined) ?? []), value];
    this.canonical = canonicalJson({ type: PROPERTY_SET_TYPE, properties: document });
  }

  static of(properties: Properties): PropertySet {
    return new PropertySet(Object.entries(properties).map(([name, value]) => ({ name, value })));
  }

  get empty(): boolean {
    return this.properties.length === 0;
  }

  /** What is extended in place of a measurement with these properties: the bank's hash of {@link canonical} in UTF-8. */
  digest(bank: number): Buffer {
    let digest = this.digests.get(bank);
    if (digest === undefined) {
      digest = hash(bank, Buffer.from(this.canonical, 'utf8'));
      this.digests.set(bank, digest);
    }
    return digest;
  }

  /** This set together with others. */
  union(others: readonly PropertySet[]): PropertySet {
    return new PropertySet([this, ...others].flatMap(({ properties }) => properties));
  }

  /** The properties whose names match one of the patterns. */
  only(patterns: readonly string[]): PropertySet {
    return new PropertySet(this.properties.filter(({ name }) => patterns.some((pattern) => matchesPattern(pattern, name))));
  }
}

/** Whether a property's name matches a pattern, in which `*` stands for any text, dots included. */
export function matchesPattern(pattern: string, name: string): boolean {
  const parts = pattern.split('*');
  const [first = ''] = parts;
  if (parts.length === 1) return pattern === name;
  const last = parts.at(-1) ?? '';
  if (!name.startsWith(first) || !name.endsWith(last) || name.length < first.length + last.length) return false;
  const end = name.length - last.length;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at);
    if (found < 0 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}
