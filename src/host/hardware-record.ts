// The host record about the chip's host keys: see `HostRecords`.
import * as v from 'valibot';
import type { HostRecords } from '../hardware/host/keys.js';
import { readHostRecord, writeHostRecord } from '../store/host-record.js';
import type { LockedStore } from '../store/locked-store.js';

/** Name of the record. */
export const HARDWARE_RECORD = 'hardware';

const base64 = v.pipe(v.string(), v.base64());
const schema = v.strictObject({
  hostRootName: v.pipe(v.string(), v.hexadecimal()),
  migrationAuthority: v.strictObject({ public: base64, private: base64 }),
});

/** Undefined before the first start. Throws a `StoreError` if it is damaged. */
export function readHardwareRecord(store: LockedStore): HostRecords | undefined {
  return readHostRecord(store, HARDWARE_RECORD, schema);
}

/** Resolves when it is durable. */
export function writeHardwareRecord(store: LockedStore, records: HostRecords): Promise<void> {
  return writeHostRecord(store, HARDWARE_RECORD, records);
}
