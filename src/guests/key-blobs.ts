// A guest's key blobs as the store keeps them: JSON, blobs in base64. The chip's keys protect what is in them.
import * as v from 'valibot';
import { describeIssue } from '../config/describe-issue.js';
import type { GuestKeyBlobs } from '../hardware/hardware.js';
import type { KeyBlobs } from '../hardware/host/create-key.js';
import type { SealedTo } from '../hardware/host/sealing.js';
import { StoreError } from '../store/store-error.js';
import { decode, encode } from '../tpm/schema.js';
import { TPMT_PUBLIC } from '../tpm/structures/index.js';

const blob = v.pipe(
  v.string(),
  v.base64(),
  v.transform((text) => Buffer.from(text, 'base64')),
);
const keyPair = { public: blob, private: blob };
const blobs = {
  rootPublic: blob,
  rootPrivate: blob,
  secretsKey: v.strictObject(keyPair),
  stateKeyPublic: blob,
  stateKeyPrivate: blob,
};
const sealedTo = v.union([
  v.strictObject({ pcrs: v.strictObject({ bank: v.number(), pcrs: v.array(v.number()) }) }),
  v.strictObject({ authority: blob }),
]);
/** Version 2 says whom the state key is sealed to; blobs that say nothing about that stay at version 1. Version 3 has an anchored root. */
const schema = v.variant('version', [
  v.strictObject({ version: v.literal(1), ...blobs }),
  v.strictObject({ version: v.literal(2), ...blobs, sealedTo }),
  v.strictObject({
    version: v.literal(3),
    ...blobs,
    sealedTo: v.optional(sealedTo),
    anchored: v.strictObject({ ...keyPair, secretsKey: v.strictObject(keyPair) }),
  }),
]);

/** What the store keeps of a guest's keys. */
export function encodeKeyBlobs({ sealedTo: to, anchored, secretsKey, ...stored }: GuestKeyBlobs): Buffer {
  const texts = Object.fromEntries(Object.entries(stored).map(([name, value]) => [name, value.toString('base64')]));
  const fields = { ...texts, secretsKey: encodeBlobs(secretsKey) };
  const sealed = to === undefined ? { version: 1, ...fields } : { version: 2, ...fields, sealedTo: encodeSealedTo(to) };
  if (anchored === undefined) return Buffer.from(JSON.stringify(sealed), 'utf8');
  const fixed = { ...encodeBlobs(anchored), secretsKey: encodeBlobs(anchored.secretsKey) };
  return Buffer.from(JSON.stringify({ ...sealed, version: 3, anchored: fixed }), 'utf8');
}

/** Reverses {@link encodeKeyBlobs}. Throws a {@link StoreError} if these are no key blobs. */
export function decodeKeyBlobs(guest: string, bytes: Buffer): GuestKeyBlobs {
  const result = v.safeParse(v.pipe(v.string(), v.parseJson(), schema), bytes.toString('utf8'));
  if (!result.success) throw damaged(guest, describeIssue(result.issues));
  const { output } = result;
  const { rootPublic, rootPrivate, stateKeyPublic, stateKeyPrivate } = output;
  const to = output.version === 1 || output.sealedTo === undefined ? undefined : decodeSealedTo(output.sealedTo);
  const secretsKey = decodeBlobs(output.secretsKey);
  const anchored =
    output.version === 3 ? { ...decodeBlobs(output.anchored), secretsKey: decodeBlobs(output.anchored.secretsKey) } : undefined;
  return {
    rootPublic,
    rootPrivate,
    secretsKey,
    stateKeyPublic,
    stateKeyPrivate,
    sealedTo: to,
    ...(anchored === undefined ? {} : { anchored }),
  };
}

function encodeBlobs({ publicArea, privateBlob }: KeyBlobs): { public: string; private: string } {
  return { public: publicArea.toString('base64'), private: privateBlob.toString('base64') };
}

function decodeBlobs(stored: { public: Buffer; private: Buffer }): KeyBlobs {
  return { publicArea: stored.public, privateBlob: stored.private };
}

function encodeSealedTo(to: SealedTo): { pcrs: { bank: number; pcrs: readonly number[] } } | { authority: string } {
  if (to.kind === 'pcrs') return { pcrs: { bank: to.choice.bank, pcrs: to.choice.pcrs } };
  return { authority: encode(TPMT_PUBLIC, to.key).toString('base64') };
}

/** `TPM_RC_*` of the codec if the authority's key is none. */
function decodeSealedTo(stored: v.InferOutput<typeof sealedTo>): SealedTo {
  if ('pcrs' in stored) return { kind: 'pcrs', choice: stored.pcrs };
  return { kind: 'authority', key: decode(TPMT_PUBLIC, stored.authority, true) };
}

function damaged(guest: string, why: string): StoreError {
  return new StoreError(`opening guest ${guest}`, `its record 'key-blobs' has a bad field ${why}`, 'restore the store from a backup', {
    record: 'key-blobs',
  });
}
