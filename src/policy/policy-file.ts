// The vTPM policy as a file: YAML or JSON, for one guest or as a class that guests share. docs/policy.md describes it.
import * as v from 'valibot';
import { parseSettings, settingsFailure, type SettingsFile } from '../config/settings-file.js';
import { limitSection } from '../config/limits.js';
import {
  className,
  issuerName,
  PLATFORM_SOURCES,
  propertyName,
  propertyPattern,
  propertyValue,
  providerName,
  UNKNOWN_TREATMENTS,
} from '../config/names.js';
import { parsePcrList } from './pcr-list.js';

/** Version of the format. */
export const POLICY_VERSION = 1;
/** Characters of a policy file at most. */
export const MAX_POLICY_SIZE = 65_536;
/** Providers that a guest can have. */
const MAX_PROVIDERS = 16;
const MAX_LIST = 64;

const oneOf = <const T extends readonly string[]>(values: T) => v.picklist(values, `Expected ${orList(values)}`);
const unique = (values: readonly string[]): boolean => new Set(values).size === values.length;
const orList = (values: readonly string[]): string =>
  values.length < 2 ? values.join('') : `${values.slice(0, -1).join(', ')} or ${values.at(-1) ?? ''}`;
const list = <T extends string>(item: v.GenericSchema<unknown, T>, max: number) =>
  v.pipe(
    v.array(item, 'Expected a list'),
    v.minLength(1, 'Expected at least one'),
    v.maxLength(max, `Expected at most ${max.toString()}`),
    v.check((values: T[]) => unique(values), 'Expected each one once'),
  );

/** Which provider is presented: by lists of PCRs, and for all others `default`. */
const present = v.pipe(
  v.record(
    v.pipe(
      v.string(),
      v.check((text) => text === 'default' || parsePcrList(text) !== undefined, 'Expected PCRs such as 0-7 or 8,9 (0 to 23), or default'),
    ),
    providerName,
    'Expected providers by PCRs',
  ),
  v.check((all) => unique(Object.keys(all).flatMap((text) => (parsePcrList(text) ?? []).map(String))), 'Expected each PCR once'),
);

const REVEAL_WORDS = ['all', 'none'] as const;
const DIGEST_TREATMENTS = ['reveal', 'hide'] as const;
const attest = v.strictObject({
  provider: v.optional(providerName),
  reveal: v.optional(
    v.union([v.picklist(REVEAL_WORDS), list(propertyPattern, MAX_LIST)], 'Expected all, none or a list of property names such as os.*'),
  ),
  digests: v.optional(oneOf(DIGEST_TREATMENTS)),
});

/** Hierarchies whose keys outlive a reset. */
export const KEY_HIERARCHIES = ['owner', 'endorsement', 'platform'] as const;
export type KeyHierarchy = (typeof KEY_HIERARCHIES)[number];
export const KEY_TYPES = ['rsa', 'ecc', 'keyedhash', 'symcipher'] as const;
export type KeyType = (typeof KEY_TYPES)[number];
const ENGINES = ['hardware', 'software'] as const;
export type EngineName = (typeof ENGINES)[number];

const engine = v.optional(oneOf(ENGINES));
const keySection = v.strictObject({
  owner: engine,
  endorsement: engine,
  platform: engine,
  /** For completeness: nothing else is possible. */
  null: v.optional(v.literal('software', 'Expected software: keys of the null hierarchy end with a reset')),
  types: v.optional(v.strictObject({ rsa: engine, ecc: engine, keyedhash: engine, symcipher: engine })),
  anchored: v.optional(
    v.union(
      [v.picklist(REVEAL_WORDS), list(oneOf(KEY_HIERARCHIES), KEY_HIERARCHIES.length)],
      'Expected all, none or a list of hierarchies',
    ),
  ),
});
/** YAML makes an empty name of the key `null`. */
const keys = v.pipe(
  v.unknown(),
  v.transform((value) =>
    isRecord(value) ? Object.fromEntries(Object.entries(value).map(([name, each]) => [name || 'null', each])) : value,
  ),
  keySection,
);

const migration = v.strictObject({
  allowed: v.optional(v.boolean('Expected true or false')),
  require: v.optional(v.record(propertyName, propertyValue, 'Expected values by property names')),
  issuers: v.optional(list(issuerName, MAX_LIST)),
  hosts: v.optional(list(v.pipe(v.string('Expected a name'), v.regex(/^[\x21-\x7e]{1,256}$/, 'Expected the name of a host')), MAX_LIST)),
});

/** Whether the guest's TPM may go back to an older state with a snapshot of its machine. */
const SNAPSHOT_TREATMENTS = ['refuse', 'allow'] as const;

const policyFile = v.strictObject({
  version: v.literal(POLICY_VERSION, `Expected ${POLICY_VERSION.toString()}`),
  class: v.optional(className),
  present: v.optional(present),
  providers: v.optional(list(providerName, MAX_PROVIDERS)),
  attest: v.optional(attest),
  unknown: v.optional(oneOf(UNKNOWN_TREATMENTS)),
  platform: v.optional(oneOf(PLATFORM_SOURCES)),
  keys: v.optional(keys),
  migration: v.optional(migration),
  snapshots: v.optional(oneOf(SNAPSHOT_TREATMENTS)),
  limits: v.optional(limitSection),
});

/** What a policy file says. */
export type PolicyFile = v.InferOutput<typeof policyFile>;

/** Reads a policy. `path` is for messages. Throws a {@link Failure} that names file, place in it and what was expected. */
export function parsePolicy(path: string, text: string): PolicyFile {
  const file = policySource(path);
  if (text.length > MAX_POLICY_SIZE) throw settingsFailure(file, `it has more than ${MAX_POLICY_SIZE.toString()} characters`);
  return parseSettings(policyFile, file, text);
}

/** For errors about a policy file. */
export function policySource(path: string): SettingsFile {
  return { code: 'bad_policy', what: `reading the policy ${path}`, hint: 'policies are described in docs/policy.md' };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
