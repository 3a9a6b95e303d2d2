// DSSE 1.0: an envelope around a signed payload.
import * as v from 'valibot';
import { describeIssue } from '../config/describe-issue.js';
import { PropertyError } from './property-error.js';
import { signWith, verifyWith, type SigningKey, type VerificationKey } from './signing-keys.js';

/** Bytes of an envelope's text at most. */
export const MAX_ENVELOPE = 1 << 20;
const MAX_SIGNATURES = 16;

const base64 = v.pipe(v.string(), v.regex(/^[A-Za-z0-9+/_-]*={0,2}$/, 'Expected base64'));
const envelopeSchema = v.object({
  payloadType: v.pipe(v.string(), v.nonEmpty(), v.maxLength(256)),
  payload: base64,
  signatures: v.pipe(
    v.array(v.object({ keyid: v.optional(v.nullable(v.pipe(v.string(), v.maxLength(512)))), sig: v.pipe(base64, v.maxLength(4096)) })),
    v.minLength(1),
    v.maxLength(MAX_SIGNATURES),
  ),
  openings: v.optional(v.unknown()),
});

/** A DSSE envelope, decoded. */
export interface Envelope {
  readonly payloadType: string;
  readonly payload: Buffer;
  /** `keyid` is a hint that nobody signed. */
  readonly signatures: readonly { readonly keyid: string | undefined; readonly signature: Buffer }[];
  /** A member of ours, which nobody signed: openings of what the payload commits to. Undefined if there are none. */
  readonly openings?: unknown;
}

/** The bytes that are signed: `DSSEv1 <length> <type> <length> <payload>`, lengths in decimal ASCII. */
export function preAuthEncoding(payloadType: string, payload: Buffer): Buffer {
  const type = Buffer.from(payloadType, 'utf8');
  const head = Buffer.from(`DSSEv1 ${type.length.toString()} ${payloadType} ${payload.length.toString()} `, 'utf8');
  return Buffer.concat([head, payload]);
}

/** Signs a payload; the result is the envelope's JSON, with `openings` as they are if there are some. */
export function signEnvelope(payloadType: string, payload: Buffer, keys: readonly SigningKey[], openings?: unknown): string {
  const signed = preAuthEncoding(payloadType, payload);
  const signatures = keys.map((key) => ({ keyid: key.keyid, sig: signWith(key, signed).toString('base64') }));
  return JSON.stringify({ payloadType, payload: payload.toString('base64'), signatures, openings });
}

/** Reads an envelope's JSON; unknown members are passed over, as DSSE asks. Throws {@link PropertyError} `malformed`. */
export function parseEnvelope(text: string): Envelope {
  if (text.length > MAX_ENVELOPE) throw new PropertyError('malformed', 'the envelope is too large');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new PropertyError('malformed', 'the envelope is not JSON');
  }
  const result = v.safeParse(envelopeSchema, value);
  if (!result.success) {
    throw new PropertyError('malformed', `the envelope: ${describeIssue(result.issues)}`);
  }
  const { payloadType, payload, signatures, openings } = result.output;
  return {
    payloadType,
    payload: Buffer.from(payload, 'base64'),
    signatures: signatures.map(({ keyid, sig }) => ({ keyid: keyid ?? undefined, signature: Buffer.from(sig, 'base64') })),
    openings,
  };
}

/** Those of `keys` that signed the envelope. */
export function signersOf({ payloadType, payload, signatures }: Envelope, keys: readonly VerificationKey[]): VerificationKey[] {
  const signed = preAuthEncoding(payloadType, payload);
  const signers: VerificationKey[] = [];
  for (const key of keys) {
    for (const { keyid, signature } of signatures) {
      // Other tools name keys in other ways: only a name of our own form rules a key out.
      if (keyid !== undefined && /^[0-9a-f]{64}$/.test(keyid) && keyid !== key.keyid && signatures.length > 1) continue;
      if (!verifyWith(key, signed, signature)) continue;
      signers.push(key);
      break;
    }
  }
  return signers;
}
