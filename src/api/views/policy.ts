// What the control API shows of policies.
import * as v from 'valibot';
import { LIMIT_SETTINGS, type LimitName } from '../../config/limits.js';

const text = v.string();

const limitFields = Object.fromEntries(
  (Object.keys(LIMIT_SETTINGS) as LimitName[]).map((name) => [LIMIT_SETTINGS[name].field, v.number()]),
) as { [N in LimitName as (typeof LIMIT_SETTINGS)[N]['field']]: v.NumberSchema<undefined> };

export const policyView = v.object({
  guest: text,
  text: v.pipe(v.nullable(text), v.description('the policy file; null if the guest has none')),
  settings: v.pipe(v.nullable(v.record(text, v.unknown())), v.description('what it comes to with its class')),
  hash: v.pipe(v.nullable(text), v.description('SHA-256 of the settings, hexadecimal')),
  limits: v.nullable(v.object(limitFields)),
  reason: v.pipe(v.nullable(text), v.description('why it cannot be used')),
  pending: v.pipe(v.boolean(), v.description("whether a part of it waits for the guest's next reset")),
});

const change = v.object({
  path: text,
  from: v.optional(v.unknown()),
  to: v.optional(v.unknown()),
  effect: v.picklist(['now', 'reset', 'never']),
});
const changes = v.array(change);

export const changedPolicyView = v.object({ ...policyView.entries, changes });

export const reloadView = v.object({
  classes: v.array(text),
  problems: v.array(text),
  guests: v.array(v.object({ guest: text, changes, reason: v.nullable(text) })),
});
