// The policy of one guest: what its file and the class in it say, with all that they leave open filled in.
import { createHash } from 'node:crypto';
import { canonicalJson } from '../statements/canonical-json.js';
import type { PlatformSource, UnknownTreatment } from '../config/names.js';
import { matchesPattern } from '../statements/property-set.js';
import { settingsFailure } from '../config/settings-file.js';
import { IMPLEMENTATION_PCR, TPM_ALG, TPM_RH } from '../tpm/constants/index.js';
import type { LimitSection } from '../config/limits.js';
import { formatPcrList, parsePcrList } from './pcr-list.js';
import {
  type EngineName,
  type KeyHierarchy,
  KEY_HIERARCHIES,
  KEY_TYPES,
  type KeyType,
  type PolicyFile,
  policySource,
  POLICY_VERSION,
} from './policy-file.js';

const PRESENTED = 'digest';
/** Providers of a guest besides those that its policy needs. */
const ALWAYS = ['digest', 'log'] as const;

const HIERARCHY_OF: ReadonlyMap<number, KeyHierarchy> = new Map([
  [TPM_RH.OWNER, 'owner'],
  [TPM_RH.ENDORSEMENT, 'endorsement'],
  [TPM_RH.PLATFORM, 'platform'],
]);
const TYPE_OF: ReadonlyMap<number, KeyType> = new Map([
  [TPM_ALG.RSA, 'rsa'],
  [TPM_ALG.ECC, 'ecc'],
  [TPM_ALG.KEYEDHASH, 'keyedhash'],
  [TPM_ALG.SYMCIPHER, 'symcipher'],
]);

/** What attestation shows. */
export interface Reveal {
  /** Properties that are shown: all, none, or those whose names match a pattern. */
  readonly properties: 'all' | 'none' | readonly string[];
  /** Whether digests of binaries are shown. */
  readonly digests: 'reveal' | 'hide';
}

/** Where keys live that outlive a reset. */
export interface KeyPlaces {
  readonly hierarchies: Readonly<Record<KeyHierarchy, EngineName>>;
  readonly types: Readonly<Record<KeyType, EngineName>>;
  /** Hierarchies whose keys never leave this TPM. */
  readonly anchored: readonly KeyHierarchy[];
}

/** What a destination must be: used by migration. */
export interface MigrationRules {
  readonly allowed: boolean;
  /** Properties of the destination's platform. */
  readonly require: Readonly<Record<string, string | number | boolean>>;
  /** Issuers whose statements count; undefined: all that the configuration trusts. */
  readonly issuers: readonly string[] | undefined;
  /** Names of hosts; undefined: any. */
  readonly hosts: readonly string[] | undefined;
}

/** The policy of one guest. Immutable. */
export class GuestPolicy {
  /** As a policy file that says everything and names no class. */
  readonly settings: PolicyFile;
  /** SHA-256 of the canonical JSON of {@link settings}, in hexadecimal. */
  readonly hash: string;
  /** Names of the providers that the guest has. */
  readonly providers: readonly string[];
  readonly reveal: Reveal;
  /** Of measurements without a statement in force; undefined: as the host's configuration says. */
  readonly unknown: UnknownTreatment | undefined;
  readonly platform: PlatformSource;
  readonly keys: KeyPlaces;
  readonly migration: MigrationRules;
  /** Limits that differ from the host's. */
  /** Whether its TPM may go back to an older state with a snapshot of its machine. */
  readonly snapshots: 'refuse' | 'allow';
  readonly limits: LimitSection;
  private readonly presented: readonly string[];
  private readonly attested: string | undefined;

  /**
   * @param file what the policy says, with its class already below it ({@link overlay})
   * @param path for messages; a {@link Failure} is thrown if settings do not fit together
   */
  constructor(file: PolicyFile, path = 'of the guest') {
    this.presented = presentedOf(file);
    this.attested = file.attest?.provider;
    this.providers = providersOf(file, [...this.presented, ...(this.attested === undefined ? [] : [this.attested])], path);
    this.reveal = { properties: file.attest?.reveal ?? 'all', digests: file.attest?.digests ?? 'reveal' };
    this.unknown = file.unknown;
    this.platform = file.platform ?? 'pcrs';
    this.keys = keyPlaces(file, path);
    const { allowed = true, require = {}, issuers, hosts } = file.migration ?? {};
    this.migration = { allowed, require, issuers, hosts };
    this.snapshots = file.snapshots ?? 'refuse';
    this.limits = file.limits ?? {};
    this.settings = this.complete();
    this.hash = createHash('sha256').update(canonicalJson(this.settings), 'utf8').digest('hex');
  }

  /** The provider whose vector the guest sees at PCR `index`. */
  presentedProvider(index: number): string {
    return this.presented[index] ?? PRESENTED;
  }

  /** The provider whose vector attestation goes by at PCR `index`. */
  attestProvider(index: number): string {
    return this.attested ?? this.presentedProvider(index);
  }

  /** Whether attestation shows a property. */
  reveals(property: string): boolean {
    const { properties } = this.reveal;
    return typeof properties === 'string' ? properties === 'all' : properties.some((each) => matchesPattern(each, property));
  }

  /**
   * Where a new key is to live, by its hierarchy (`TPM_RH_*`; undefined: any) and type (`TPM_ALG_*`): in hardware only if both hierarchy
   * and type are.
   */
  engineFor(hierarchy: number | undefined, type: number): EngineName | 'anchored' {
    const { hierarchies, types, anchored } = this.keys;
    const place = hierarchy === undefined ? undefined : (HIERARCHY_OF.get(hierarchy) ?? 'owner');
    const ofHierarchy = place === undefined ? 'hardware' : hierarchies[place];
    const named = TYPE_OF.get(type);
    if (ofHierarchy === 'software' || (named !== undefined && types[named] === 'software')) return 'software';
    return place !== undefined && anchored.includes(place) ? 'anchored' : 'hardware';
  }

  private complete(): PolicyFile {
    const { keys, reveal, migration } = this;
    const { issuers, hosts, allowed, require } = migration;
    return {
      version: POLICY_VERSION,
      present: presentSection(this.presented),
      providers: [...this.providers],
      attest: {
        ...(this.attested === undefined ? {} : { provider: this.attested }),
        reveal: typeof reveal.properties === 'string' ? reveal.properties : [...reveal.properties],
        digests: reveal.digests,
      },
      ...(this.unknown === undefined ? {} : { unknown: this.unknown }),
      platform: this.platform,
      keys: { ...keys.hierarchies, types: { ...keys.types }, anchored: keys.anchored.length === 0 ? 'none' : [...keys.anchored] },
      migration: {
        allowed,
        require: { ...require },
        ...(issuers === undefined ? {} : { issuers: [...issuers] }),
        ...(hosts === undefined ? {} : { hosts: [...hosts] }),
      },
      snapshots: this.snapshots,
      limits: { ...this.limits },
    };
  }
}

/** What `own` says, and what it leaves open as `base` says. Lists are not added to each other; PCRs of `present` count one by one. */
export function overlay(base: PolicyFile, own: PolicyFile): PolicyFile {
  const { class: _class, ...rest } = { ...base, ...own };
  return {
    ...rest,
    ...(base.present === undefined && own.present === undefined ? {} : { present: { ...byIndex(base), ...byIndex(own) } }),
    attest: { ...base.attest, ...own.attest },
    keys: { ...base.keys, ...own.keys, types: { ...base.keys?.types, ...own.keys?.types } },
    migration: { ...base.migration, ...own.migration },
    limits: { ...base.limits, ...own.limits },
  };
}

/** `present` with an entry for each PCR that it names. */
function byIndex({ present = {} }: PolicyFile): Record<string, string> {
  return Object.fromEntries(
    Object.entries(present).flatMap(([pcrs, provider]): [string, string][] =>
      pcrs === 'default' ? [[pcrs, provider]] : (parsePcrList(pcrs) ?? []).map((index) => [index.toString(), provider]),
    ),
  );
}

function presentedOf(file: PolicyFile): string[] {
  const named = byIndex(file);
  return Array.from({ length: IMPLEMENTATION_PCR }, (_, index) => named[index.toString()] ?? named['default'] ?? PRESENTED);
}

/** The shortest `present` for a provider per PCR. */
function presentSection(presented: readonly string[]): Record<string, string> {
  const counts = new Map<string, number[]>();
  presented.forEach((name, index) => counts.set(name, [...(counts.get(name) ?? []), index]));
  const [usual = PRESENTED] = [...counts].sort(([a, x], [b, y]) => y.length - x.length || (a < b ? -1 : 1)).map(([name]) => name);
  const others = [...counts].filter(([name]) => name !== usual).map(([name, indices]) => [formatPcrList(indices), name] as const);
  return { ...Object.fromEntries(others), default: usual };
}

function providersOf({ providers }: PolicyFile, needed: readonly string[], path: string): string[] {
  if (providers === undefined) return [...new Set(['digest', ...needed, ...ALWAYS])];
  const missing = needed.find((name) => !providers.includes(name));
  if (missing === undefined) return providers;
  throw settingsFailure(policySource(path), `providers: Expected ${missing} among them, because present or attest names it`);
}

function keyPlaces({ keys = {} }: PolicyFile, path: string): KeyPlaces {
  const { types = {}, anchored = 'none' } = keys;
  const hierarchies = Object.fromEntries(KEY_HIERARCHIES.map((name) => [name, keys[name] ?? 'hardware'])) as Record<
    KeyHierarchy,
    EngineName
  >;
  const named = anchored === 'all' ? KEY_HIERARCHIES : anchored === 'none' ? [] : KEY_HIERARCHIES.filter((name) => anchored.includes(name));
  const wrong = named.find((name) => hierarchies[name] === 'software');
  if (wrong !== undefined) {
    throw settingsFailure(
      policySource(path),
      `keys.anchored: Expected hierarchies whose keys are in hardware, but keys.${wrong} is software`,
    );
  }
  return {
    hierarchies,
    types: Object.fromEntries(KEY_TYPES.map((name) => [name, types[name] ?? 'hardware'])) as Record<KeyType, EngineName>,
    anchored: named,
  };
}
