// The encrypted records of one guest, on the host's database.
import { timingSafeEqual } from 'node:crypto';
import { reasonOf } from '../failure.js';
import { SerialQueue } from '../serial-queue.js';
import type { Change } from './database.js';
import type { GuestRecords, RecordChanges } from './guest-records.js';
import { claimedSequence, FINGERPRINT_SIZE, formatOf, RECORD_VERSION, RecordCipher } from './record-cipher.js';
import { StoreError } from './store-error.js';

const RECORD_KEY = /^[\x21-\x7e]{1,256}$/;
const RESTORE_HINT = "bring a backup back with 'tpmux guest import', or see what 'tpmux guest repair' can save";

/** Where a guest's records lie in the database. */
export const guestKeys = {
  all: (id: string): string => `guest/${id}/`,
  meta: (id: string): string => `guest/${id}/meta`,
  keyBlobs: (id: string): string => `guest/${id}/key-blobs`,
  /** The state key, wrapped for the holder of a recovery key; absent if none was asked for. */
  recovery: (id: string): string => `guest/${id}/recovery`,
  /** Present until the first commit: a guest without a head is good only as long as it is there. */
  unused: (id: string): string => `guest/${id}/unused`,
  head: (id: string): string => `guest/${id}/head`,
  records: (id: string): string => `guest/${id}/record/`,
};

/** What of a database the records of a guest need. */
export interface RecordDatabase {
  read(prefix: string): Promise<[key: string, value: Buffer][]>;
  write(changes: Iterable<Change>): Promise<void>;
}

/** Where the records are. */
export interface RecordPlace {
  readonly database: RecordDatabase;
  /** Whether the guest has never committed. */
  readonly isUnused: () => boolean;
  /** The first commit of a guest that has none gets a number above this one; default 0. */
  readonly after?: bigint;
}

/**
 * {@link GuestRecords} on the database. Besides the records there is a head, which holds the number of the last commit and the XOR of the
 * fingerprints of all records as of then; so a record that was removed, added or put back from an older time is found too.
 * A complete older copy of the guest is not found here: compare {@link sequence} with a counter that cannot go back.
 *
 * The sealed records are in memory too, once they have been verified: what was last committed can be read while the disk fails.
 */
export class GuestRecordStore implements GuestRecords {
  private readonly cipher: RecordCipher;
  private sealed: Map<string, Buffer> | undefined;
  private readonly setDigest = Buffer.alloc(FINGERPRINT_SIZE);
  private lastSequence = 0n;
  /** Number of the last attempt to commit: a number is never used for two different commits. */
  private lastAttempt = 0n;
  private readonly queue = new SerialQueue();

  /** @param stateKey 32 secret bytes; no view of them is kept */
  constructor(
    private readonly place: RecordPlace,
    private readonly guest: string,
    stateKey: Buffer,
  ) {
    this.cipher = new RecordCipher(guest, stateKey);
  }

  /** Number of the last commit; 0 before the first. */
  sequence(): Promise<bigint> {
    return this.whenVerified(() => this.lastSequence);
  }

  load(prefix: string): Promise<[key: string, value: Buffer][]> {
    return this.whenVerified((sealed) => {
      const keys = [...sealed.keys()].filter((key) => key.startsWith(prefix));
      return keys.sort().map((key) => [key, this.open(key, sealed.get(key))]);
    });
  }

  commit(changes: RecordChanges): Promise<void> {
    return this.whenVerified((sealed) => this.write(sealed, changes));
  }

  private async write(sealed: Map<string, Buffer>, changes: RecordChanges): Promise<void> {
    for (const key of changes.keys()) {
      if (!RECORD_KEY.test(key)) throw new RangeError(`record key ${JSON.stringify(key)} is not 1 to 256 printable characters`);
    }
    if (changes.size === 0) return;
    const sequence = ++this.lastAttempt;
    const setDigest = Buffer.from(this.setDigest);
    const values = new Map<string, Buffer | null>();
    for (const [key, value] of changes) {
      const before = claimedSequence(sealed.get(key));
      if (before !== undefined) xorInto(setDigest, this.cipher.fingerprint(key, before));
      if (value !== null) xorInto(setDigest, this.cipher.fingerprint(key, sequence));
      values.set(key, value && this.cipher.seal(recordName(key), sequence, value));
    }
    await this.store(values, this.cipher.seal(HEAD_NAME, sequence, setDigest));
    for (const [key, value] of values) {
      if (value === null) sealed.delete(key);
      else sealed.set(key, value);
    }
    setDigest.copy(this.setDigest);
    this.lastSequence = sequence;
  }

  private async store(values: ReadonlyMap<string, Buffer | null>, head: Buffer): Promise<void> {
    const changes: Change[] = [...values].map(([key, value]) => [this.recordKey(key), value]);
    changes.push([guestKeys.head(this.guest), head]);
    if (this.lastSequence === 0n) changes.push([guestKeys.unused(this.guest), null]);
    try {
      await this.place.database.write(changes);
    } catch (error) {
      throw this.failed('writing', error);
    }
  }

  private whenVerified<T>(use: (sealed: Map<string, Buffer>) => T | Promise<T>): Promise<T> {
    return this.queue.run(async () => use((this.sealed ??= await this.verify())));
  }

  /** Reads all records and compares them with the head. */
  private async verify(): Promise<Map<string, Buffer>> {
    const sealed = new Map<string, Buffer>();
    const headKey = guestKeys.head(this.guest);
    const [rows, heads] = await this.readAll(headKey);
    const prefix = guestKeys.records(this.guest);
    this.setDigest.fill(0);
    for (const [key, value] of rows) {
      const record = key.slice(prefix.length);
      const sequence = claimedSequence(value);
      if (sequence === undefined) throw this.unreadable(record, value);
      sealed.set(record, value);
      xorInto(this.setDigest, this.cipher.fingerprint(record, sequence));
    }
    const head = heads.find(([key]) => key === headKey)?.[1];
    if (head === undefined) {
      if (sealed.size > 0 || !this.place.isUnused()) throw this.damaged('head', 'is missing');
      this.lastAttempt = this.place.after ?? 0n;
      return sealed;
    }
    this.verifyHead(head, sealed);
    this.lastSequence = claimedSequence(head) ?? 0n;
    this.lastAttempt = this.lastSequence;
    return sealed;
  }

  private verifyHead(head: Buffer, sealed: ReadonlyMap<string, Buffer>): void {
    const digest = this.cipher.open(HEAD_NAME, head);
    if (digest === undefined) {
      if (claimedSequence(head) === undefined) throw this.unreadable('head', head);
      throw this.damaged(
        'head',
        'is not authentic: it was changed, belongs to another guest, or the state key is not the one it was written with',
      );
    }
    if (digest.length === FINGERPRINT_SIZE && timingSafeEqual(digest, this.setDigest)) return;
    for (const [key, value] of sealed) this.open(key, value);
    throw this.damaged('head', 'does not match the records: one was removed, added or put back from an older time');
  }

  private async readAll(headKey: string): Promise<[rows: [string, Buffer][], heads: [string, Buffer][]]> {
    const { database } = this.place;
    try {
      return [await database.read(guestKeys.records(this.guest)), await database.read(headKey)];
    } catch (error) {
      throw this.failed('reading', error);
    }
  }

  private open(key: string, sealed: Buffer | undefined): Buffer {
    const value = sealed && this.cipher.open(recordName(key), sealed);
    if (value === undefined) throw this.damaged(key, 'is not authentic: it was changed or belongs elsewhere');
    return value;
  }

  private recordKey(key: string): string {
    return guestKeys.records(this.guest) + key;
  }

  private failed(doing: string, cause: unknown): StoreError {
    const what = `${doing} the state of guest ${this.guest}`;
    return new StoreError(what, reasonOf(cause), 'check the disk of the state directory', { guest: this.guest }, { cause });
  }

  private unreadable(record: string, value: Buffer): StoreError {
    const format = formatOf(value);
    if (format === undefined || format <= RECORD_VERSION) return this.damaged(record, 'is cut short or of no known format');
    const why = `record '${record}' has format ${format.toString()}, this tpmux knows up to ${RECORD_VERSION.toString()}`;
    return new StoreError(`reading the state of guest ${this.guest}`, why, 'use the newer tpmux that wrote it', {
      guest: this.guest,
      record,
    });
  }

  private damaged(record: string, why: string): StoreError {
    return new StoreError(`reading the state of guest ${this.guest}`, `record '${record}' ${why}`, RESTORE_HINT, {
      guest: this.guest,
      record,
    });
  }
}

// Records and head are sealed under names that cannot meet.
const HEAD_NAME = 'head';
const recordName = (key: string): string => `record/${key}`;

function xorInto(target: Buffer, value: Buffer): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] ?? 0) ^ (value[i] ?? 0);
}
