// A policy in words.
import { isBuiltIn } from '../config/names.js';
import { IMPLEMENTATION_PCR } from '../tpm/constants/index.js';
import type { GuestPolicy } from './guest-policy.js';
import { LIMIT_NAMES, LIMIT_SETTINGS, type Limits } from '../config/limits.js';
import type { PolicyChange } from './policy-changes.js';
import { formatPcrList } from './pcr-list.js';
import { KEY_HIERARCHIES, KEY_TYPES } from './policy-file.js';

/** What a policy says about one thing. */
export interface Explanation {
  readonly topic: string;
  readonly statements: readonly string[];
}

/** Everything that a policy means for its guest, topic by topic. */
export function explainPolicy(policy: GuestPolicy, limits: Limits): Explanation[] {
  return [
    {
      topic: 'PCRs as the guest sees them',
      statements: byVector(
        (index) => policy.presentedProvider(index),
        (name) => seen(name, policy),
      ),
    },
    { topic: 'measurements without a statement', statements: unknownStatements(policy) },
    { topic: 'providers', statements: providerStatements(policy) },
    { topic: 'attestation', statements: attestStatements(policy) },
    { topic: 'keys', statements: keyStatements(policy) },
    { topic: 'migration (settings for migration between hosts)', statements: migrationStatements(policy) },
    { topic: 'snapshots', statements: [snapshotStatement(policy)] },
    { topic: 'limits', statements: limitStatements(policy, limits) },
  ];
}

/** A change in one line. */
export function explainChange({ path, from, to, effect }: PolicyChange): string {
  const value = (each: unknown): string => (each === undefined ? 'unset' : typeof each === 'string' ? each : JSON.stringify(each));
  const when = { now: 'at once', reset: "from the guest's next reset on", never: 'refused for a guest that exists' }[effect];
  return `${path}: ${value(from)} -> ${value(to)} (${when})`;
}

/** One line for the PCRs of each provider. */
function byVector(provider: (index: number) => string, words: (name: string) => string): string[] {
  const indices = new Map<string, number[]>();
  for (let index = 0; index < IMPLEMENTATION_PCR; index++) indices.set(provider(index), [...(indices.get(provider(index)) ?? []), index]);
  return [...indices].map(([name, pcrs]) => `PCR ${formatPcrList(pcrs)}: ${name}, ${words(name)}`);
}

function seen(name: string, { platform }: GuestPolicy): string {
  switch (name) {
    case 'digest':
    case 'log':
      return 'what is measured, as in an ordinary TPM: another binary gives another value';
    case 'certified':
      return 'the certified properties of what is measured: binaries with the same properties give the same value';
    case 'platform':
      return platform === 'pcrs'
        ? "what is measured, starting from the host's own PCR of the same number: on another host it is another value"
        : "what is measured, starting from the host's properties: on a host with the same properties it is the same value";
    default:
      return 'what a provider of a package makes of what is measured';
  }
}

function unknownStatements({ unknown, providers }: GuestPolicy): string[] {
  if (!providers.includes('certified')) return ['no difference: the guest has no provider certified'];
  switch (unknown) {
    case 'value':
      return ['certified extends one fixed value for all of them: do not seal to a PCR that holds it'];
    case 'distinct':
      return ['certified extends a value of its own for each of them'];
    case 'refuse':
      return ['the command is answered TPM_RC_POLICY_FAIL, and a fixed value in the vector of certified shows it'];
    case undefined:
      return ["as properties.certified.unknown of the host's configuration says (default: value)"];
  }
}

function providerStatements({ providers }: GuestPolicy): string[] {
  const others = providers.filter((name) => !isBuiltIn(name));
  return [
    `each has a vector of PCRs: ${providers.join(', ')}`,
    ...(others.length === 0 ? [] : [`packages that the host must have under properties.packages: ${others.join(', ')}`]),
    ...(providers.includes('log') ? [] : ['without log there is no measurement log, so evidence of this guest cannot be checked']),
  ];
}

function attestStatements(policy: GuestPolicy): string[] {
  const { reveal } = policy;
  const shown =
    typeof reveal.properties === 'string'
      ? `${reveal.properties === 'all' ? 'all' : 'no'} properties are revealed`
      : `properties that are revealed: ${reveal.properties.join(', ')}`;
  const hidden = reveal.digests === 'hide';
  const plain = Array.from({ length: IMPLEMENTATION_PCR }, (_, index) => index).filter(
    (index) => policy.attestProvider(index) !== 'certified',
  );
  return [
    ...byVector(
      (index) => policy.attestProvider(index),
      () => 'is what evidence goes by',
    ),
    shown,
    hidden ? 'digests of binaries are hidden' : 'digests of binaries are revealed',
    ...(hidden && plain.length > 0 ? [`so evidence about PCR ${formatPcrList(plain)} cannot be checked entry by entry`] : []),
  ];
}

function keyStatements({ keys }: GuestPolicy): string[] {
  const { hierarchies, types, anchored } = keys;
  const places = KEY_HIERARCHIES.map((name) => {
    if (hierarchies[name] === 'software') return `${name}: in software, encrypted under the guest's state key`;
    return `${name}: in the hardware TPM${anchored.includes(name) ? ', and they never leave it (anchored)' : ''}`;
  });
  const soft = KEY_TYPES.filter((name) => types[name] === 'software');
  return [
    ...places,
    'null: in software, until the next reset',
    ...(soft.length === 0 ? [] : [`in software in all hierarchies: ${soft.join(', ')}`]),
    'what the hardware TPM cannot hold is in software too',
  ];
}

function migrationStatements({ migration, keys }: GuestPolicy): string[] {
  const { allowed, require, issuers, hosts } = migration;
  if (!allowed) return ['not allowed'];
  const demands = Object.entries(require).map(([name, value]) => `the destination must have ${name}=${String(value)}`);
  return [
    'allowed',
    ...demands,
    ...(issuers === undefined ? [] : [`as stated by: ${issuers.join(', ')}`]),
    ...(hosts === undefined ? [] : [`only to: ${hosts.join(', ')}`]),
    ...(keys.anchored.length === 0 ? [] : [`keys of these hierarchies stay behind: ${keys.anchored.join(', ')}`]),
  ];
}

function snapshotStatement({ snapshots }: GuestPolicy): string {
  return snapshots === 'refuse'
    ? 'an older state of the TPM is refused: a snapshot of its machine cannot be gone back to'
    : 'the TPM goes back with a snapshot of its machine, with what was deleted or used since; counters and failed authorizations do not go back';
}

function limitStatements(policy: GuestPolicy, limits: Limits): string[] {
  return LIMIT_NAMES.map((name) => {
    const { field, counts } = LIMIT_SETTINGS[name];
    const source = policy.limits[name] === undefined ? "the host's" : 'of the policy';
    return `${name}: ${limits[field].toString()} ${counts} (${source})`;
  });
}
