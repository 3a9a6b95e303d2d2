// Which provider's vector counts at each PCR, as it is stored and travels with a guest.
import * as v from 'valibot';

const names = v.pipe(v.array(v.pipe(v.string(), v.maxLength(64))), v.maxLength(32));
const schema = v.object({ presented: names, attested: names });

/** Names of providers by PCR: whose vector the guest sees, and whose attestation goes by. */
export interface VectorChoice {
  readonly presented: readonly string[];
  readonly attested: readonly string[];
}

export function encodeChoice({ presented, attested }: VectorChoice): Buffer {
  return Buffer.from(JSON.stringify({ presented, attested }), 'utf8');
}

/** What {@link encodeChoice} gave; undefined if it is not that. */
export function decodeChoice(bytes: Buffer): VectorChoice | undefined {
  try {
    const result = v.safeParse(schema, JSON.parse(bytes.toString('utf8')));
    return result.success ? result.output : undefined;
  } catch {
    return undefined;
  }
}
