// What the control API shows of property statements and measurement logs.
import * as v from 'valibot';

const text = v.string();
const value = v.union([v.string(), v.number(), v.boolean()]);

const summary = {
  id: text,
  issuer: text,
  properties: v.record(text, value),
  notBefore: text,
  notAfter: text,
  inForce: v.boolean(),
  code: v.pipe(v.nullable(text), v.description('why it is not in force, for programs')),
  why: v.nullable(text),
};

const statementSummary = v.object({ ...summary, subjects: v.pipe(v.number(), v.description('how many things it is about')) });

export const statementsView = v.object({ statements: v.array(statementSummary) });

export const statementView = v.object({
  ...summary,
  subjects: v.array(v.object({ name: text, digest: v.record(text, v.optional(text)) })),
  envelope: v.pipe(v.unknown(), v.description('the DSSE envelope, as it was signed')),
});

export const addedView = v.object({ added: v.array(text) });

export const revokedView = v.object({ issuer: text, number: v.number(), revoked: v.number() });

export const revocationsView = v.object({
  list: v.pipe(v.nullable(v.unknown()), v.description('the revocation list')),
  envelope: v.pipe(v.nullable(v.unknown()), v.description('its DSSE envelope, as it was signed')),
});

export const explanationView = v.object({
  bank: text,
  digest: text,
  known: v.boolean(),
  properties: v.array(v.object({ name: text, value })),
  extended: v.pipe(v.nullable(text), v.description('what the provider certified extends in its place, hexadecimal')),
  statements: v.array(statementSummary),
});

export const measurementLogView = v.union([
  v.object({ guest: text, log: v.pipe(v.unknown(), v.description('the measurement log as JSON')) }),
  v.object({ guest: text, provider: text, tcg: v.pipe(text, v.description('a TCG event log, base64')) }),
]);

export const evidenceView = v.object({
  guest: text,
  evidence: v.pipe(v.unknown(), v.description('the evidence document')),
  withheld: v.pipe(v.number(), v.description('measurements that cannot be verified')),
});
