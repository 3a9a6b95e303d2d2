// The daemon's answers, as far as they are printed as text.
import * as v from 'valibot';
import { EXIT, Failure } from '../failure.js';

export const guestAnswer = v.object({
  name: v.string(),
  id: v.string(),
  state: v.string(),
  reason: v.nullable(v.string()),
  powered: v.boolean(),
  created: v.string(),
  autostart: v.boolean(),
  policy: v.boolean(),
  socket: v.string(),
  control: v.string(),
  tcp: v.nullable(v.number()),
  mssim: v.nullable(v.number()),
  lines: v.array(
    v.object({ kind: v.picklist(['serial', 'console-socket']), path: v.string(), open: v.boolean(), reason: v.nullable(v.string()) }),
  ),
  device: v.nullable(v.string()),
  tcti: v.string(),
  connections: v.number(),
});
export type GuestAnswer = v.InferOutput<typeof guestAnswer>;

export const guestsAnswer = v.object({ guests: v.array(guestAnswer) });

export const statusAnswer = v.object({
  pid: v.number(),
  started: v.string(),
  stateDir: v.string(),
  runDir: v.string(),
  tpm: v.object({
    tcti: v.string(),
    embedded: v.boolean(),
    state: v.string(),
    since: v.string(),
    reason: v.nullable(v.string()),
    manufacturer: v.string(),
    vendor: v.string(),
    firmware: v.string(),
    specification: v.string(),
    pendingJobs: v.number(),
  }),
  store: v.object({ state: v.string(), reason: v.nullable(v.string()) }),
  rollback: v.nullable(
    v.object({ whenDetected: v.string(), index: v.number(), counter: v.nullable(v.string()), renewed: v.nullable(v.string()) }),
  ),
  properties: v.object({
    statements: v.number(),
    failures: v.array(v.object({ guest: v.string(), provider: v.string(), failures: v.number() })),
  }),
  guests: v.object({ total: v.number(), running: v.number(), failed: v.number() }),
});

export const pcrsAnswer = v.object({ guest: v.string(), banks: v.record(v.string(), v.array(v.string())) });

export const pcrLogAnswer = v.object({
  guest: v.string(),
  entries: v.array(
    v.object({
      number: v.number(),
      time: v.string(),
      kind: v.string(),
      command: v.string(),
      locality: v.number(),
      pcr: v.nullable(v.number()),
      digests: v.record(v.string(), v.string()),
    }),
  ),
});

export const countersAnswer = v.object({
  guest: v.string(),
  commands: v.array(v.object({ command: v.string(), calls: v.number(), hardwareCommands: v.number(), chipMilliseconds: v.number() })),
});

export const checksAnswer = v.object({
  checks: v.array(v.object({ name: v.string(), result: v.picklist(['ok', 'warn', 'fail']), detail: v.string(), hint: v.string() })),
});

export const resealAnswer = v.object({
  resealed: v.array(v.string()),
  failed: v.array(v.object({ guest: v.string(), reason: v.string() })),
});

export const policyDigestAnswer = v.object({ bank: v.string(), pcrs: v.array(v.number()), policy: v.string(), toBeSigned: v.string() });

export const exportAnswer = v.object({ backup: v.string(), recovery: v.boolean() });
export const importAnswer = v.object({ guest: v.object({ name: v.string() }), lost: v.array(v.string()) });
export const repairAnswer = v.object({
  applied: v.boolean(),
  kept: v.number(),
  lost: v.array(v.object({ record: v.string(), reason: v.string() })),
  complete: v.boolean(),
  savedAs: v.nullable(v.string()),
});

export const auditAnswer = v.object({
  entries: v.array(
    v.object({
      number: v.number(),
      time: v.string(),
      event: v.string(),
      guest: v.optional(v.string()),
      id: v.optional(v.string()),
      detail: v.optional(v.string()),
      previous: v.string(),
    }),
  ),
  head: v.object({ entries: v.number(), hash: v.string() }),
  problems: v.array(v.string()),
});
export type AuditAnswer = v.InferOutput<typeof auditAnswer>;

/** Checks an answer. Throws a {@link Failure} if the daemon is of another kind. */
export function understand<S extends v.GenericSchema>(schema: S, answer: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, answer);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new Failure({
    code: 'bad_answer',
    what: 'reading the answer of the daemon',
    why: `${v.getDotPath(issue) ?? 'it'}: ${issue.message}`,
    hint: 'use a daemon of the same version',
    exit: EXIT.failed,
  });
}
