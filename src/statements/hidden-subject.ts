// Subjects of a statement that it does not show: commitments that only who has the opening can tell apart from chance.
import { createHash, randomBytes } from 'node:crypto';
import * as v from 'valibot';
import { canonicalJson } from './canonical-json.js';
import { PropertyError } from './property-error.js';

/** Algorithm of a subject's `digest` that is a commitment. */
export const HIDDEN_DIGEST = 'hidden-sha256';
const COMMITMENT_TYPE = 'urn:tpmux:hidden-subject:v1';
const SALT_SIZE = 32;

/** What a commitment is made of. `digest` is by algorithm, in hexadecimal. */
export interface Opening<S> {
  readonly salt: string;
  readonly subject: S;
}

/** A commitment as it stands in a statement. */
export const hiddenDigest = v.strictObject({
  [HIDDEN_DIGEST]: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'Expected 64 digits of lower-case hexadecimal')),
});

/** Schema of the openings of a statement, with that of a subject. */
export const openingsOf = <S extends v.GenericSchema>(subject: S, max: number) =>
  v.pipe(
    v.array(
      v.strictObject({ salt: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'Expected 64 digits of lower-case hexadecimal')), subject }),
    ),
    v.maxLength(max),
  );

/** A new opening, with a salt of 32 random bytes: who has the commitment alone cannot try digests. */
export function newOpening<S>(subject: S): Opening<S> {
  return { salt: randomBytes(SALT_SIZE).toString('hex'), subject };
}

/** SHA-256 of the RFC 8785 text of `{"salt", "subject", "type"}`, in hexadecimal. */
export function commitmentOf({ salt, subject }: Opening<unknown>): string {
  return createHash('sha256')
    .update(canonicalJson({ type: COMMITMENT_TYPE, salt, subject }), 'utf8')
    .digest('hex');
}

/** Those of the commitments that are opened, with their subjects. Throws {@link PropertyError} `malformed` for an opening of none. */
export function openCommitments<S>(commitments: readonly string[], openings: readonly Opening<S>[]): Map<string, S> {
  const opened = new Map(openings.map((opening) => [commitmentOf(opening), opening.subject]));
  const known = new Set(commitments);
  for (const commitment of opened.keys()) {
    if (!known.has(commitment)) throw new PropertyError('malformed', 'the statement: openings: one of them opens none of its subjects');
  }
  return opened;
}
