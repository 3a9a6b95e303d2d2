// The encrypted records of one guest, on the host's database.
import { timingSafeEqual } from 'node:crypto';
import type { Database } from 'lmdb';
import { reasonOf } from '../failure.js';
import { requireRoom, writeDurably } from './durable-write.js';
import type { GuestRecords, RecordChanges } from './guest-records.js';
import { claimedSequence, FINGERPRINT_SIZE, RecordCipher } from './record-cipher.js';
import { StoreError } from './store-error.js';

const RECORD_KEY = /^[\x21-\x7e]{1,256}$/;
// Keys are printable ASCII, so this sorts after every key that has the prefix.
const AFTER_PREFIX = '\x7f';
const RESTORE_HINT = "restore the store from a backup of this host, or 'tpmux guest remove' the guest and create it anew";

/** Where a guest's records lie in the database. */
export const guestKeys = {
  all: (id: string): string => `guest/${id}/`,
  meta: (id: string): string => `guest/${id}/meta`,
  identity: (id: string): string => `guest/${id}/identity`,
  /** Present until the first commit: a guest without a head is good only as long as it is there. */
  unused: (id: string): string => `guest/${id}/unused`,
  head: (id: string): string => `guest/${id}/head`,
  records: (id: string): string => `guest/${id}/record/`,
};

/** The keys that begin with `prefix`, as an LMDB range. */
export function prefixRange(prefix: string): { start: string; end: string } {
  return { start: prefix, end: prefix + AFTER_PREFIX };
}

/**
 * {@link GuestRecords} on LMDB. Besides the records there is a head, which holds the number of the last commit and the XOR of the
 * fingerprints of all records as of then; so a record that was removed, added or put back from an older time is found too.
 * A complete older copy of the guest is not found here: compare {@link sequence} with a counter that cannot go back.
 */
export class GuestRecordStore implements GuestRecords {
  private readonly cipher: RecordCipher;
  private readonly sequences = new Map<string, bigint>();
  private readonly setDigest = Buffer.alloc(FINGERPRINT_SIZE);
  private lastSequence = 0n;
  private verified = false;
  private failed: StoreError | undefined;

  /** @param stateKey 32 secret bytes; no view of them is kept */
  constructor(
    private readonly database: Database<Buffer, string>,
    private readonly directory: string,
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
    return this.whenVerified(() => {
      const keys = [...this.sequences.keys()].filter((key) => key.startsWith(prefix));
      return keys.sort().map((key) => [key, this.open(key)]);
    });
  }

  commit(changes: RecordChanges): Promise<void> {
    return this.whenVerified(() => this.write(changes));
  }

  private async write(changes: RecordChanges): Promise<void> {
    for (const key of changes.keys()) {
      if (!RECORD_KEY.test(key)) throw new RangeError(`record key ${JSON.stringify(key)} is not 1 to 256 printable characters`);
    }
    if (changes.size === 0) return;
    try {
      requireRoom(this.directory);
    } catch (error) {
      // Nothing has changed: the same commit is good once there is room.
      throw this.unwritable(error, 'make room on the disk of the state directory');
    }
    try {
      await writeDurably(this.database, this.prepare(changes));
    } catch (error) {
      this.failed = this.unwritable(error, 'check the disk of the state directory, then stop and start the guest');
      throw this.failed;
    }
  }

  private unwritable(cause: unknown, hint: string): StoreError {
    return new StoreError(`writing the state of guest ${this.guest}`, reasonOf(cause), hint, { guest: this.guest }, { cause });
  }

  /** Seals the changes and moves the state in memory on; no await in between, so commits are numbered in the order of the calls. */
  private prepare(changes: RecordChanges): Map<string, Buffer | null> {
    const sequence = this.lastSequence + 1n;
    const writes = new Map<string, Buffer | null>();
    for (const [key, value] of changes) {
      const before = this.sequences.get(key);
      if (before !== undefined) xorInto(this.setDigest, this.cipher.fingerprint(key, before));
      if (value === null) {
        this.sequences.delete(key);
        writes.set(this.recordKey(key), null);
      } else {
        this.sequences.set(key, sequence);
        xorInto(this.setDigest, this.cipher.fingerprint(key, sequence));
        writes.set(this.recordKey(key), this.cipher.seal(recordName(key), sequence, value));
      }
    }
    writes.set(guestKeys.head(this.guest), this.cipher.seal(HEAD_NAME, sequence, this.setDigest));
    if (this.lastSequence === 0n) writes.set(guestKeys.unused(this.guest), null);
    this.lastSequence = sequence;
    return writes;
  }

  private whenVerified<T>(use: () => T | Promise<T>): Promise<T> {
    return Promise.resolve().then(() => {
      if (this.failed !== undefined) throw this.failed;
      if (!this.verified) this.verify();
      this.verified = true;
      return use();
    });
  }

  private verify(): void {
    this.sequences.clear();
    this.setDigest.fill(0);
    const prefix = guestKeys.records(this.guest);
    for (const { key, value } of this.database.getRange(prefixRange(prefix))) {
      const record = key.slice(prefix.length);
      const sequence = claimedSequence(value);
      if (sequence === undefined) throw this.damaged(record, 'is too short or of an unknown version');
      this.sequences.set(record, sequence);
      xorInto(this.setDigest, this.cipher.fingerprint(record, sequence));
    }
    const head = this.database.get(guestKeys.head(this.guest));
    if (head === undefined) {
      this.verifyUnused();
      return;
    }
    const digest = this.cipher.open(HEAD_NAME, head);
    if (digest === undefined)
      throw this.damaged(
        'head',
        'is not authentic: it was changed, belongs to another guest, or the state key is not the one it was written with',
      );
    if (digest.length !== FINGERPRINT_SIZE || !timingSafeEqual(digest, this.setDigest)) {
      for (const key of this.sequences.keys()) this.open(key);
      throw this.damaged('head', 'does not match the records: one was removed, added or put back from an older time');
    }
    this.lastSequence = claimedSequence(head) ?? 0n;
  }

  private verifyUnused(): void {
    if (this.sequences.size > 0 || !this.database.doesExist(guestKeys.unused(this.guest))) throw this.damaged('head', 'is missing');
    this.lastSequence = 0n;
  }

  private open(key: string): Buffer {
    const sealed = this.database.get(this.recordKey(key));
    const value = sealed === undefined ? undefined : this.cipher.open(recordName(key), sealed);
    if (value === undefined) throw this.damaged(key, 'is not authentic: it was changed or belongs elsewhere');
    return value;
  }

  private recordKey(key: string): string {
    return guestKeys.records(this.guest) + key;
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
