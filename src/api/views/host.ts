// What the control API shows of the daemon, its host and its chip.
import * as v from 'valibot';

const text = v.string();

export const statusView = v.object({
  pid: v.number(),
  started: text,
  stateDir: text,
  runDir: text,
  tpm: v.object({
    tcti: text,
    embedded: v.pipe(v.boolean(), v.description('a software TPM for trials, not a hardware TPM')),
    state: v.picklist(['ok', 'unreachable', 'cleared', 'failing']),
    since: text,
    reason: v.nullable(text),
    manufacturer: text,
    vendor: text,
    firmware: text,
    specification: text,
    pendingJobs: v.number(),
  }),
  store: v.object({ state: v.picklist(['ok', 'failing']), reason: v.nullable(text) }),
  rollback: v.nullable(
    v.object({
      whenDetected: v.picklist(['refuse', 'allow']),
      index: v.pipe(v.number(), v.description('NV index of the counter')),
      counter: v.nullable(text),
      renewed: v.nullable(text),
    }),
  ),
  properties: v.object({
    statements: v.number(),
    failures: v.array(v.object({ guest: text, provider: text, failures: v.number() })),
  }),
  guests: v.object({ total: v.number(), running: v.number(), failed: v.number() }),
});

export const checksView = v.object({
  checks: v.array(v.object({ name: text, result: v.picklist(['ok', 'warn', 'fail']), detail: text, hint: text })),
});

export const resealView = v.object({ resealed: v.array(text), failed: v.array(v.object({ guest: text, reason: text })) });

export const policyDigestView = v.object({
  bank: text,
  pcrs: v.array(v.number()),
  policy: v.pipe(text, v.description('digest of PolicyPCR, hexadecimal')),
  toBeSigned: v.pipe(text, v.description('what the authority signs with SHA-256, hexadecimal')),
});

export const auditView = v.object({
  entries: v.array(
    v.object({
      version: v.literal(1),
      number: v.number(),
      time: text,
      event: text,
      guest: v.optional(text),
      id: v.optional(text),
      detail: v.optional(text),
      previous: v.pipe(text, v.description('SHA-256 of the line before, hexadecimal')),
    }),
  ),
  head: v.object({ entries: v.number(), hash: text }),
  problems: v.array(text),
});
