// Property statements: in-toto Statement v1 with a predicate of our own, in a DSSE envelope.
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { describeIssue } from '../config/describe-issue.js';
import { issuerName, properties } from '../config/names.js';
import { TPM_ALG } from '../tpm/constants/index.js';
import { digestSize } from '../tpm/hash.js';
import { canonicalJson } from './canonical-json.js';
import { parseEnvelope, signEnvelope, type Envelope } from './dsse.js';
import { commitmentOf, HIDDEN_DIGEST, hiddenDigest, newOpening, openCommitments, openingsOf } from './hidden-subject.js';
import { PropertyError } from './property-error.js';
import type { Properties } from './properties.js';
import type { SigningKey } from './signing-keys.js';

/** `payloadType` of the envelope. */
const STATEMENT_PAYLOAD_TYPE = 'application/vnd.in-toto+json';
const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
/** `predicateType` of a property statement. */
const PROPERTY_PREDICATE_TYPE = 'urn:tpmux:predicate:properties:v1';

/** Subjects of one statement at most. */
export const MAX_SUBJECTS = 1024;

/** Names of hash algorithms in `digest`, and the banks that they are looked up in. */
export const DIGEST_BANKS = { sha1: TPM_ALG.SHA1, sha256: TPM_ALG.SHA256, sha384: TPM_ALG.SHA384, sha512: TPM_ALG.SHA512 } as const;
export type DigestName = keyof typeof DIGEST_BANKS;
export const DIGEST_NAMES = Object.keys(DIGEST_BANKS) as DigestName[];

const hexDigest = (name: DigestName) => {
  const size = digestSize(DIGEST_BANKS[name]) * 2;
  return v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]*$/, 'Expected lower-case hexadecimal'), v.length(size)));
};
/** Digests of one thing in several banks, in hexadecimal. */
export const digestSet = v.pipe(
  v.strictObject({ sha1: hexDigest('sha1'), sha256: hexDigest('sha256'), sha384: hexDigest('sha384'), sha512: hexDigest('sha512') }),
  v.check((digests) => Object.values(digests).some((digest) => digest !== undefined), 'Expected at least one digest'),
);
export type DigestSet = v.InferOutput<typeof digestSet>;

const timestamp = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/, 'Expected a UTC time such as 2026-01-31T12:00:00Z'),
  v.check((text) => !Number.isNaN(Date.parse(text)), 'Expected a time that exists'),
);

/** The predicate of a property statement. */
const predicate = v.strictObject({
  issuer: issuerName,
  properties,
  validity: v.strictObject({ notBefore: timestamp, notAfter: timestamp }),
});

const subjectSchema = v.strictObject({ name: v.optional(v.pipe(v.string(), v.maxLength(512)), ''), digest: digestSet });
const hiddenSubject = v.strictObject({ name: v.literal(''), digest: hiddenDigest });
const openingsSchema = openingsOf(subjectSchema, MAX_SUBJECTS);

const statementSchema = v.strictObject({
  _type: v.literal(STATEMENT_TYPE),
  subject: v.pipe(v.array(v.union([subjectSchema, hiddenSubject])), v.minLength(1), v.maxLength(MAX_SUBJECTS)),
  predicateType: v.literal(PROPERTY_PREDICATE_TYPE),
  predicate,
});

/** A thing that statements are about: its digests, as they are extended into PCRs. */
export interface Subject {
  readonly name: string;
  readonly digest: DigestSet;
}

/** What a statement says. Who says it is not known before its signature is checked. */
export interface PropertyStatement {
  /** SHA-256 of the payload, in hexadecimal: what statements are called by. */
  readonly id: string;
  /** Those that it shows, and those of the hidden ones that were opened. */
  readonly subjects: readonly Subject[];
  /** Whether it shows none of its subjects by itself: they are commitments. */
  readonly hidesSubjects: boolean;
  readonly issuer: string;
  readonly properties: Properties;
  /** Milliseconds since 1970; the statement is valid from the first to before the last. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** What a new statement is to say. */
export interface NewStatement {
  readonly subjects: readonly Subject[];
  readonly issuer: string;
  readonly properties: Properties;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** The statement shows salted commitments in place of its subjects; the envelope has the openings beside it. */
  readonly hidden?: boolean | undefined;
}

/** Makes and signs a statement; the result is the envelope's JSON. Throws {@link PropertyError} `malformed` if it would not be accepted. */
export function issueStatement(wanted: NewStatement, key: SigningKey): string {
  const { subjects, issuer, properties: all, notBefore, notAfter, hidden } = wanted;
  const shown = subjects.map(({ name, digest }) => ({ name, digest }));
  const openings = hidden === true ? shown.map(newOpening) : undefined;
  const statement = {
    _type: STATEMENT_TYPE,
    subject: openings?.map((opening) => ({ name: '', digest: { [HIDDEN_DIGEST]: commitmentOf(opening) } })) ?? shown,
    predicateType: PROPERTY_PREDICATE_TYPE,
    predicate: { issuer, properties: all, validity: { notBefore: wholeSeconds(notBefore), notAfter: wholeSeconds(notAfter) } },
  };
  const payload = Buffer.from(canonicalJson(statement), 'utf8');
  const envelope = signEnvelope(STATEMENT_PAYLOAD_TYPE, payload, [key], openings);
  readStatement(parseEnvelope(envelope));
  return envelope;
}

/** Reads the statement in an envelope, without a look at its signatures. Throws {@link PropertyError} `malformed`. */
export function readStatement({ payloadType, payload, openings }: Envelope): PropertyStatement {
  if (payloadType !== STATEMENT_PAYLOAD_TYPE) throw new PropertyError('malformed', `the payload is of type ${payloadType}`);
  const result = v.safeParse(statementSchema, jsonOf(payload, 'the statement'));
  if (!result.success) {
    throw new PropertyError('malformed', `the statement: ${describeIssue(result.issues)}`);
  }
  const { subject, predicate: said } = result.output;
  const opened = openedSubjects(subject, openings);
  const notBefore = Date.parse(said.validity.notBefore);
  const notAfter = Date.parse(said.validity.notAfter);
  if (notAfter <= notBefore) throw new PropertyError('malformed', 'the statement: predicate.validity: Expected it to end after it begins');
  return {
    id: payloadId(payload),
    subjects: opened,
    hidesSubjects: subject.every(({ digest }) => HIDDEN_DIGEST in digest),
    issuer: said.issuer,
    properties: said.properties,
    notBefore,
    notAfter,
  };
}

type ShownSubject = v.InferOutput<typeof subjectSchema> | v.InferOutput<typeof hiddenSubject>;

function openedSubjects(subjects: readonly ShownSubject[], openings: unknown): Subject[] {
  const result = v.safeParse(v.optional(openingsSchema, []), openings);
  if (!result.success) {
    throw new PropertyError('malformed', `the statement: openings.${describeIssue(result.issues, '')}`);
  }
  const commitments = subjects.flatMap(({ digest }) => (HIDDEN_DIGEST in digest ? [digest[HIDDEN_DIGEST]] : []));
  const known = openCommitments(commitments, result.output);
  return subjects.flatMap(({ name, digest }) => {
    if (!(HIDDEN_DIGEST in digest)) return [{ name, digest }];
    const subject = known.get(digest[HIDDEN_DIGEST]);
    return subject === undefined ? [] : [subject];
  });
}

/**
 * An envelope with those of its openings for which `wanted` holds, as a new envelope. Throws {@link PropertyError} `malformed` if it has no
 * statement in it.
 */
export function withOpenings(text: string, wanted: (subject: Subject) => boolean): string {
  const envelope = parseEnvelope(text);
  readStatement(envelope);
  const { payloadType, payload, signatures } = JSON.parse(text) as Record<string, unknown>;
  const kept = v.parse(v.optional(openingsSchema, []), envelope.openings).filter(({ subject }) => wanted(subject));
  return JSON.stringify({ payloadType, payload, signatures, openings: kept.length === 0 ? undefined : kept });
}

/** What a signed payload is called by. */
export function payloadId(payload: Buffer): string {
  return createHash('sha256').update(payload).digest('hex');
}

/** A payload as JSON. Throws {@link PropertyError} `malformed`. */
export function jsonOf(payload: Buffer, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload)) as unknown;
  } catch {
    throw new PropertyError('malformed', `${what} is not JSON in UTF-8`);
  }
}

function wholeSeconds(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`;
}
