// The secret that only this host's chip can tell: what the store is authenticated with.
import * as v from 'valibot';
import type { KeyBlobs } from '../hardware/host/create-key.js';
import type { Hardware } from '../hardware/hardware.js';
import { readHostRecord, writeHostRecord } from '../store/host-record.js';
import type { LockedStore } from '../store/locked-store.js';

/** Host record with the secret's blobs. */
export const SECRET_RECORD = 'host-secret';

const base64 = v.pipe(v.string(), v.base64());
const secretBlobs = v.strictObject({ public: base64, private: base64 });

/**
 * The secret, 32 bytes that the caller zeroizes; made at the first start. Rejects with a `StoreError` if its record is damaged, and as the
 * chip does if it is not this chip's.
 */
export async function readHostSecret(hardware: Hardware, store: LockedStore): Promise<Buffer> {
  const stored = readHostRecord(store, SECRET_RECORD, secretBlobs);
  if (stored !== undefined) return await hardware.openSecret(keyBlobs(stored));
  const blobs = await hardware.createSecret();
  await writeHostRecord(store, SECRET_RECORD, {
    public: blobs.publicArea.toString('base64'),
    private: blobs.privateBlob.toString('base64'),
  });
  return await hardware.openSecret(blobs);
}

function keyBlobs(stored: v.InferOutput<typeof secretBlobs>): KeyBlobs {
  return { publicArea: Buffer.from(stored.public, 'base64'), privateBlob: Buffer.from(stored.private, 'base64') };
}
