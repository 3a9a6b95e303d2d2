// Revocation lists: which statements and digests an issuer does not stand for any more.
import * as v from 'valibot';
import { describeIssue } from '../config/describe-issue.js';
import { canonicalJson } from './canonical-json.js';
import { signEnvelope, type Envelope } from './dsse.js';
import { PropertyError } from './property-error.js';
import type { SigningKey } from './signing-keys.js';
import { issuerName } from '../config/names.js';
import { digestSet, jsonOf, type DigestSet } from './statement.js';

/** `payloadType` of the envelope. */
const REVOCATION_PAYLOAD_TYPE = 'application/vnd.tpmux.revocations+json';
/** Revocations in one list at most; the envelope's size bounds them too. */
const MAX_REVOCATIONS = 4096;

const statementId = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'Expected the identifier of a statement'));
const reason = v.optional(v.pipe(v.string(), v.maxLength(256)), '');
const revocationSchema = v.union([v.strictObject({ statement: statementId, reason }), v.strictObject({ digest: digestSet, reason })]);
/** One revocation: a statement by its identifier, or all that the issuer ever stated about a digest. */
export type Revocation = { readonly statement: string; readonly reason: string } | { readonly digest: DigestSet; readonly reason: string };

const listSchema = v.strictObject({
  version: v.literal(1),
  issuer: issuerName,
  number: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  issued: v.string(),
  revoked: v.pipe(v.array(revocationSchema), v.maxLength(MAX_REVOCATIONS)),
});

/** All revocations of one issuer. A list with a higher number takes the place of one with a lower. */
export interface RevocationList {
  readonly issuer: string;
  readonly number: number;
  /** When it was made, for people. */
  readonly issued: string;
  readonly revoked: readonly Revocation[];
}

/** Signs a list; the result is the envelope's JSON. */
export function issueRevocations({ issuer, number, issued, revoked }: RevocationList, key: SigningKey): string {
  const payload = Buffer.from(canonicalJson({ version: 1, issuer, number, issued, revoked }), 'utf8');
  const envelope = signEnvelope(REVOCATION_PAYLOAD_TYPE, payload, [key]);
  readRevocations({ payloadType: REVOCATION_PAYLOAD_TYPE, payload });
  return envelope;
}

/** Reads the list in an envelope, without a look at its signatures. Throws {@link PropertyError} `malformed`. */
export function readRevocations({ payloadType, payload }: Pick<Envelope, 'payloadType' | 'payload'>): RevocationList {
  if (payloadType !== REVOCATION_PAYLOAD_TYPE) throw new PropertyError('malformed', `the payload is of type ${payloadType}`);
  const result = v.safeParse(listSchema, jsonOf(payload, 'the revocation list'));
  if (!result.success) {
    throw new PropertyError('malformed', `the revocation list: ${describeIssue(result.issues)}`);
  }
  return result.output;
}
