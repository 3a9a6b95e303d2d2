// The daemon's answers about policies.
import * as v from 'valibot';
import type { Limits } from '../../config/limits.js';

const limits = v.custom<Limits>((value) => typeof value === 'object' && value !== null);

export const policyAnswer = v.object({
  guest: v.string(),
  text: v.nullable(v.string()),
  settings: v.nullable(v.record(v.string(), v.unknown())),
  hash: v.nullable(v.string()),
  limits: v.nullable(limits),
  reason: v.nullable(v.string()),
  pending: v.boolean(),
});

export const changeAnswer = v.object({
  path: v.string(),
  from: v.optional(v.unknown()),
  to: v.optional(v.unknown()),
  effect: v.picklist(['now', 'reset', 'never']),
});

export const changesAnswer = v.object({ changes: v.array(changeAnswer) });
