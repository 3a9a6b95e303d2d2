// Evidence about a guest: the translated log and the statements that it rests on. One JSON document; docs/attestation.md describes it.
import * as v from 'valibot';
import { describeIssue } from '../config/describe-issue.js';
import { MAX_ENVELOPE } from '../statements/dsse.js';
import { propertyName, propertyValue } from '../config/names.js';
import { digestSet } from '../statements/statement.js';
import { VerificationError } from './verification-error.js';

/** `type` of the document; the number is its version. */
export const EVIDENCE_TYPE = 'urn:tpmux:evidence:v1';
/** Characters of a document at most. */
const MAX_EVIDENCE = 64 << 20;
const MAX_PCRS = 32;
const MAX_ENTRIES = 200_000;
const MAX_SETS = 100_000;
const MAX_STATEMENTS = 20_000;

const pcrIndex = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_PCRS - 1));
const statementId = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'Expected the identifier of a statement'));

const pcrSchema = v.strictObject({
  pcr: pcrIndex,
  provider: v.pipe(v.string(), v.regex(/^[a-z][a-z0-9-]{0,31}$/, 'Expected the name of a provider')),
  complete: v.boolean(),
  base: digestSet,
});
/** A PCR: whose vector it is of, and its values before the first entry, by bank in hexadecimal. */
export type EvidencePcr = v.InferOutput<typeof pcrSchema>;

const entrySchema = v.strictObject({
  number: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  kind: v.picklist(['extend', 'start']),
  pcr: pcrIndex,
  translated: digestSet,
  measured: v.optional(digestSet),
  statements: v.optional(v.pipe(v.array(statementId), v.maxLength(64)), []),
});
/** What went into a PCR of the vector, by bank; what the guest measured, if that is shown; and the statements about it. */
export type EvidenceEntry = v.InferOutput<typeof entrySchema>;

const setSchema = v.record(propertyName, v.pipe(v.array(propertyValue), v.minLength(1), v.maxLength(64)));

const evidenceSchema = v.strictObject({
  type: v.literal(EVIDENCE_TYPE),
  pcrs: v.pipe(v.array(pcrSchema), v.maxLength(MAX_PCRS)),
  entries: v.pipe(v.array(entrySchema), v.maxLength(MAX_ENTRIES)),
  propertySets: v.pipe(v.array(setSchema), v.maxLength(MAX_SETS)),
  statements: v.pipe(v.array(v.pipe(v.string(), v.maxLength(MAX_ENVELOPE))), v.maxLength(MAX_STATEMENTS)),
});
/** Property sets that entries of `certified` stand for, and DSSE envelopes, each as its JSON text. */
export type Evidence = v.InferOutput<typeof evidenceSchema>;

/** Reads a document. Throws {@link VerificationError} `malformed`, which names the place, for anything else. */
export function parseEvidence(text: string): Evidence {
  if (text.length > MAX_EVIDENCE) throw new VerificationError('malformed', 'the evidence is too large');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new VerificationError('malformed', 'the evidence is not JSON');
  }
  const result = v.safeParse(evidenceSchema, value, { abortEarly: true });
  if (!result.success) {
    throw new VerificationError('malformed', `the evidence: ${describeIssue(result.issues)}`);
  }
  return result.output;
}
