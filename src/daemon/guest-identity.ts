// A guest's identity as the store keeps it: JSON, blobs in base64. The chip's keys protect what is in it.
import * as v from 'valibot';
import { EXIT, Failure } from '../failure.js';
import type { GuestIdentity } from '../hardware/hardware.js';

const blob = v.pipe(v.string(), v.base64());
const schema = v.strictObject({
  version: v.literal(1),
  rootPublic: blob,
  rootPrivate: blob,
  stateKeyPublic: blob,
  stateKeyPrivate: blob,
});

export function encodeIdentity(identity: GuestIdentity): Buffer {
  const fields = Object.entries(identity).map(([name, value]) => [name, (value as Buffer).toString('base64')]);
  return Buffer.from(JSON.stringify({ version: 1, ...Object.fromEntries(fields) }), 'utf8');
}

/** Throws a {@link Failure} if this is not an identity. */
export function decodeIdentity(guest: string, bytes: Buffer): GuestIdentity {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw damaged(guest, 'is not JSON');
  }
  const result = v.safeParse(schema, json);
  if (!result.success) throw damaged(guest, `${v.getDotPath(result.issues[0]) ?? ''}: ${result.issues[0].message}`);
  const { rootPublic, rootPrivate, stateKeyPublic, stateKeyPrivate } = result.output;
  const bytesOf = (text: string): Buffer => Buffer.from(text, 'base64');
  return {
    rootPublic: bytesOf(rootPublic),
    rootPrivate: bytesOf(rootPrivate),
    stateKeyPublic: bytesOf(stateKeyPublic),
    stateKeyPrivate: bytesOf(stateKeyPrivate),
  };
}

function damaged(guest: string, why: string): Failure {
  return new Failure({
    code: 'damaged_identity',
    what: `opening guest ${guest}`,
    why: `its stored identity ${why}`,
    hint: 'restore the store from a backup',
    exit: EXIT.failed,
  });
}
