// A guest's identity as the store keeps it: JSON, blobs in base64. The chip's keys protect what is in it.
import * as v from 'valibot';
import { EXIT, Failure } from '../failure.js';
import type { GuestKeyBlobs } from '../hardware/hardware.js';
import { decodeSealedTo, encodeSealedTo, storedSealedTo } from '../host/seal-to.js';

const blob = v.pipe(v.string(), v.base64());
const blobs = { rootPublic: blob, rootPrivate: blob, stateKeyPublic: blob, stateKeyPrivate: blob };
/**
 * Version 2 says whom the state key is sealed to; an identity that says nothing about that stays at version 1. Version 3 has an anchored
 * root.
 */
const schema = v.variant('version', [
  v.strictObject({ version: v.literal(1), ...blobs }),
  v.strictObject({ version: v.literal(2), ...blobs, sealedTo: storedSealedTo }),
  v.strictObject({
    version: v.literal(3),
    ...blobs,
    sealedTo: v.optional(storedSealedTo),
    anchored: v.strictObject({ public: blob, private: blob }),
  }),
]);

export function encodeKeyBlobs({ sealedTo, anchored, ...stored }: GuestKeyBlobs): Buffer {
  const fields = Object.fromEntries(Object.entries(stored).map(([name, value]) => [name, value.toString('base64')]));
  const sealed = sealedTo === undefined ? { version: 1, ...fields } : { version: 2, ...fields, sealedTo: encodeSealedTo(sealedTo) };
  const identity = anchored === undefined ? sealed : { ...sealed, version: 3, anchored: encodeBlobs(anchored) };
  return Buffer.from(JSON.stringify(identity), 'utf8');
}

/** Throws a {@link Failure} if this is not an identity. */
export function decodeKeyBlobs(guest: string, bytes: Buffer): GuestKeyBlobs {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw damaged(guest, 'is not JSON');
  }
  const result = v.safeParse(schema, json);
  if (!result.success) throw damaged(guest, `${v.getDotPath(result.issues[0]) ?? ''}: ${result.issues[0].message}`);
  const { rootPublic, rootPrivate, stateKeyPublic, stateKeyPrivate } = result.output;
  const stored = result.output.version === 1 ? undefined : result.output.sealedTo;
  const sealedTo = stored === undefined ? undefined : decodeSealedTo(stored);
  const anchored = result.output.version === 3 ? result.output.anchored : undefined;
  const bytesOf = (text: string): Buffer => Buffer.from(text, 'base64');
  return {
    rootPublic: bytesOf(rootPublic),
    rootPrivate: bytesOf(rootPrivate),
    stateKeyPublic: bytesOf(stateKeyPublic),
    stateKeyPrivate: bytesOf(stateKeyPrivate),
    sealedTo,
    ...(anchored === undefined ? {} : { anchored: { publicArea: bytesOf(anchored.public), privateBlob: bytesOf(anchored.private) } }),
  };
}

function encodeBlobs({ publicArea, privateBlob }: NonNullable<GuestKeyBlobs['anchored']>): { public: string; private: string } {
  return { public: publicArea.toString('base64'), private: privateBlob.toString('base64') };
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
