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
    manufacturer: v.string(),
    vendor: v.string(),
    firmware: v.string(),
    specification: v.string(),
    pendingJobs: v.number(),
  }),
  guests: v.object({ total: v.number(), running: v.number(), failed: v.number() }),
});

export const pcrsAnswer = v.object({ guest: v.string(), banks: v.record(v.string(), v.array(v.string())) });

export const countersAnswer = v.object({
  guest: v.string(),
  commands: v.array(v.object({ command: v.string(), calls: v.number(), hardwareCommands: v.number(), chipMilliseconds: v.number() })),
});

export const checksAnswer = v.object({
  checks: v.array(v.object({ name: v.string(), result: v.picklist(['ok', 'warn', 'fail']), detail: v.string(), hint: v.string() })),
});

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
