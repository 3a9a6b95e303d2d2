// What differs between two policies, and when a difference takes effect for a guest.
import { canonicalJson } from '../statements/canonical-json.js';
import { IMPLEMENTATION_PCR } from '../tpm/constants/index.js';
import type { GuestPolicy } from './guest-policy.js';
import { formatPcrList } from './pcr-list.js';

/**
 * When a change counts: `now`; from the guest's next `reset` on; `never`, because a guest that exists cannot be changed so.
 */
type ChangeEffect = 'now' | 'reset' | 'never';

/** One difference; values are those of a policy file, undefined where one says nothing. */
export interface PolicyChange {
  /** Place in the file, e.g. `limits.nv-bytes` or `present.0-7`. */
  readonly path: string;
  readonly from?: unknown;
  readonly to?: unknown;
  readonly effect: ChangeEffect;
}

/** Places by their beginning; the first that fits counts. */
const EFFECTS: readonly (readonly [start: string, effect: ChangeEffect])[] = [
  ['present', 'reset'],
  ['providers', 'reset'],
  ['attest.provider', 'reset'],
  ['attest', 'now'],
  ['unknown', 'reset'],
  ['platform', 'reset'],
  ['keys', 'never'],
  ['migration', 'now'],
  ['snapshots', 'now'],
  ['limits', 'now'],
];

/** All differences, in the order of the file. */
export function policyChanges(from: GuestPolicy, to: GuestPolicy): PolicyChange[] {
  const { present: _from, ...before } = from.settings;
  const { present: _to, ...after } = to.settings;
  const others = differences('', before, after).map((each) => ({ ...each, effect: effectOf(each.path) }));
  return [...presentChanges(from, to), ...others];
}

/** Of each run of PCRs that changed alike. */
function presentChanges(from: GuestPolicy, to: GuestPolicy): PolicyChange[] {
  const byChange = new Map<string, number[]>();
  for (let index = 0; index < IMPLEMENTATION_PCR; index++) {
    const [before, after] = [from.presentedProvider(index), to.presentedProvider(index)];
    if (before !== after) byChange.set(`${before} ${after}`, [...(byChange.get(`${before} ${after}`) ?? []), index]);
  }
  return [...byChange].map(([change, indices]) => {
    const [before, after] = change.split(' ');
    return { path: `present.${formatPcrList(indices)}`, from: before, to: after, effect: 'reset' };
  });
}

interface Difference {
  readonly path: string;
  readonly from: unknown;
  readonly to: unknown;
}

function differences(path: string, from: unknown, to: unknown): Difference[] {
  if (isRecord(from) && isRecord(to)) {
    const names = [...new Set([...Object.keys(from), ...Object.keys(to)])];
    return names.flatMap((name) => differences(path === '' ? name : `${path}.${name}`, from[name], to[name]));
  }
  const same = from === undefined || to === undefined ? from === to : canonicalJson(from) === canonicalJson(to);
  return same ? [] : [{ path, from, to }];
}

function effectOf(path: string): ChangeEffect {
  return EFFECTS.find(([start]) => path === start || path.startsWith(`${start}.`))?.[1] ?? 'now';
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
