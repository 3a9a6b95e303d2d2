// The daemon's answers about property statements, as far as they are printed as text.
import * as v from 'valibot';

const value = v.union([v.string(), v.number(), v.boolean()]);
const summary = {
  id: v.string(),
  issuer: v.string(),
  properties: v.record(v.string(), value),
  notBefore: v.string(),
  notAfter: v.string(),
  inForce: v.boolean(),
  code: v.nullable(v.string()),
  why: v.nullable(v.string()),
};
const summaryAnswer = v.object({ ...summary, subjects: v.number() });
export type StatementAnswer = v.InferOutput<typeof summaryAnswer>;

export const statementsAnswer = v.object({ statements: v.array(summaryAnswer) });

export const statementAnswer = v.object({
  ...summary,
  subjects: v.array(v.object({ name: v.string(), digest: v.record(v.string(), v.optional(v.string())) })),
});

export const explainAnswer = v.object({
  bank: v.string(),
  digest: v.string(),
  known: v.boolean(),
  properties: v.array(v.object({ name: v.string(), value })),
  extended: v.nullable(v.string()),
  statements: v.array(summaryAnswer),
});

export const revocationsAnswer = v.object({ list: v.nullable(v.unknown()), envelope: v.nullable(v.unknown()) });
