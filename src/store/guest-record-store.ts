// The encrypted records of one guest, on the host's database.
import { randomBytes, timingSafeEqual } from 'node:crypto';
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
  /** The key of all records, under the state key; another one after each erasure. */
  era: (id: string): string => `guest/${id}/era`,
  records: (id: string): string => `guest/${id}/record/`,
};

/** What of a database the records of a guest need. */
export interface RecordDatabase {
  read(prefix: string): Promise<[key: string, value: Buffer][]>;
  write(changes: Iterable<Change>): Promise<void>;
  /** Of what was replaced or deleted nothing stays. */
  erase(): Promise<void>;
}

/** The key of an era, and what seals its records. */
interface Era {
  readonly cipher: RecordCipher;
  /** What is stored of it. */
  readonly sealed: Buffer;
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
 * {@link GuestRecords} on the database. The records are sealed under the key of an era, which lies sealed under the state key and is replaced
 * when what was there is to be erased. Besides the records there is a head, which holds the number of the last commit and the XOR of the
 * fingerprints of all records as of then; so a record that was removed, added or put back from an older time is found too.
 * A complete older copy of the guest is not found here: compare {@link sequence} with a counter that cannot go back.
 *
 * The sealed records are in memory too, once they have been verified: what was last committed can be read while the disk fails.
 */
export class GuestRecordStore implements GuestRecords {
  /** Under the state key: head and {@link Era}. */
  private readonly root: RecordCipher;
  /** Undefined before the first commit. */
  private era: Era | undefined;
  /** An erasure that was committed could not be carried out in the files. */
  private owesErasure = false;
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
    this.root = new RecordCipher(guest, stateKey);
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

  commit(changes: RecordChanges, erases = false): Promise<void> {
    return this.whenVerified(async (sealed) => {
      await this.write(sealed, changes, erases);
      await this.erase();
    });
  }

  private async write(sealed: Map<string, Buffer>, changes: RecordChanges, erases: boolean): Promise<void> {
    for (const key of changes.keys()) {
      if (!RECORD_KEY.test(key)) throw new RangeError(`record key ${JSON.stringify(key)} is not 1 to 256 printable characters`);
    }
    if (changes.size === 0 && !erases) return;
    const sequence = ++this.lastAttempt;
    const before = erases ? undefined : this.era;
    const era = before ?? this.newEra(sequence);
    const setDigest = before === undefined ? Buffer.alloc(FINGERPRINT_SIZE) : Buffer.from(this.setDigest);
    const values = new Map<string, Buffer | null>();
    for (const [key, value] of before === undefined ? this.withAll(sealed, changes) : changes) {
      const earlier = before === undefined ? undefined : claimedSequence(sealed.get(key));
      if (earlier !== undefined) xorInto(setDigest, era.cipher.fingerprint(key, earlier));
      if (value !== null) xorInto(setDigest, era.cipher.fingerprint(key, sequence));
      values.set(key, value && era.cipher.seal(recordName(key), sequence, value));
    }
    await this.store(values, this.root.seal(HEAD_NAME, sequence, setDigest), before === undefined ? era : undefined);
    for (const [key, value] of values) {
      if (value === null) sealed.delete(key);
      else sealed.set(key, value);
    }
    setDigest.copy(this.setDigest);
    this.lastSequence = sequence;
    this.era = era;
    this.owesErasure ||= erases;
  }

  private newEra(sequence: bigint): Era {
    const key = randomBytes(ERA_KEY_SIZE);
    const era = { cipher: new RecordCipher(this.guest, key), sealed: this.root.seal(ERA_NAME, sequence, key) };
    key.fill(0);
    return era;
  }

  /** All records in clear as of after the changes. */
  private withAll(sealed: ReadonlyMap<string, Buffer>, changes: RecordChanges): RecordChanges {
    return new Map([...[...sealed].map(([key, value]) => [key, this.open(key, value)] as const), ...changes]);
  }

  /** The commit is durable whether this succeeds or not; it is tried again after the next one. */
  private async erase(): Promise<void> {
    if (!this.owesErasure) return;
    try {
      await this.place.database.erase();
      this.owesErasure = false;
    } catch {
      // Older bytes are of an era whose key is gone from memory and from the newest pages already.
    }
  }

  private async store(values: ReadonlyMap<string, Buffer | null>, head: Buffer, era: Era | undefined): Promise<void> {
    const changes: Change[] = [...values].map(([key, value]) => [this.recordKey(key), value]);
    changes.push([guestKeys.head(this.guest), head]);
    if (era !== undefined) changes.push([guestKeys.era(this.guest), era.sealed]);
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
    const { rows, head, era } = await this.readAll();
    const prefix = guestKeys.records(this.guest);
    this.setDigest.fill(0);
    if (head === undefined) {
      if (rows.length > 0 || era !== undefined || !this.place.isUnused()) throw this.damaged('head', 'is missing');
      this.lastAttempt = this.place.after ?? 0n;
      return sealed;
    }
    const cipher = this.openEra(head, era);
    for (const [key, value] of rows) {
      const record = key.slice(prefix.length);
      const sequence = claimedSequence(value);
      if (sequence === undefined) throw this.unreadable(record, value);
      sealed.set(record, value);
      xorInto(this.setDigest, cipher.fingerprint(record, sequence));
    }
    this.verifyHead(head, sealed);
    this.lastSequence = claimedSequence(head) ?? 0n;
    this.lastAttempt = this.lastSequence;
    return sealed;
  }

  private openEra(head: Buffer, sealed: Buffer | undefined): RecordCipher {
    if (this.root.open(HEAD_NAME, head) === undefined) throw this.badHead(head);
    if (sealed === undefined) throw this.damaged('era', 'is missing');
    const cipher = eraCipher(this.guest, this.root, sealed);
    if (cipher === undefined) throw this.damaged('era', 'is not authentic: it was changed or belongs elsewhere');
    this.era = { cipher, sealed };
    return cipher;
  }

  private badHead(head: Buffer): StoreError {
    if (claimedSequence(head) === undefined) return this.unreadable('head', head);
    return this.damaged(
      'head',
      'is not authentic: it was changed, belongs to another guest, or the state key is not the one it was written with',
    );
  }

  private verifyHead(head: Buffer, sealed: ReadonlyMap<string, Buffer>): void {
    const digest = this.root.open(HEAD_NAME, head);
    if (digest === undefined) throw this.badHead(head);
    if (digest.length === FINGERPRINT_SIZE && timingSafeEqual(digest, this.setDigest)) return;
    for (const [key, value] of sealed) this.open(key, value);
    throw this.damaged('head', 'does not match the records: one was removed, added or put back from an older time');
  }

  private async readAll(): Promise<{ rows: [string, Buffer][]; head: Buffer | undefined; era: Buffer | undefined }> {
    const { database } = this.place;
    const one = async (key: string): Promise<Buffer | undefined> => (await database.read(key)).find(([found]) => found === key)?.[1];
    try {
      const rows = await database.read(guestKeys.records(this.guest));
      return { rows, head: await one(guestKeys.head(this.guest)), era: await one(guestKeys.era(this.guest)) };
    } catch (error) {
      throw this.failed('reading', error);
    }
  }

  private open(key: string, sealed: Buffer | undefined): Buffer {
    const value = sealed && this.era?.cipher.open(recordName(key), sealed);
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
const ERA_NAME = 'era';
const ERA_KEY_SIZE = 32;
const recordName = (key: string): string => `record/${key}`;

function xorInto(target: Buffer, value: Buffer): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] ?? 0) ^ (value[i] ?? 0);
}

/** What seals the records of an era, from the era as it is stored under the state key; undefined if it is not authentic. */
export function eraCipher(guest: string, root: RecordCipher, sealed: Buffer | undefined): RecordCipher | undefined {
  const key = sealed && root.open(ERA_NAME, sealed);
  if (key?.length !== ERA_KEY_SIZE) return undefined;
  const cipher = new RecordCipher(guest, key);
  key.fill(0);
  return cipher;
}
