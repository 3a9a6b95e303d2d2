// The state of one host: one SQLite database below the state directory, unlocked.
import { reasonOf } from '../failure.js';
import { SerialQueue } from '../serial-queue.js';
import { isClear, type ClearRows } from './clear-rows.js';
import type { Change, Database } from './database.js';
import type { DirectoryLock } from './directory-lock.js';
import { decodeMeta, encodeMeta, type GuestMeta } from './guest-meta.js';
import { GuestRecordStore, guestKeys } from './guest-record-store.js';
import { StoreError } from './store-error.js';

const HOST_PREFIX = 'host/';
const META_KEY = /^guest\/([^/]+)\/meta$/s;
const GUEST_GROUP = /^guest\/([^/]+)$/s;

/** A guest as it lies in the store: its encrypted records too, so that all can be put back as it was. */
export interface StoredGuest {
  readonly meta: GuestMeta;
  readonly keyBlobs: Buffer;
  /** The state key, wrapped for the holder of a recovery key; null if none was asked for. */
  readonly recovery: Buffer | null;
  /** The encrypted records with the head, by the rest of their key. */
  readonly sealed: readonly (readonly [rest: string, value: Buffer])[];
}

/**
 * All durable state of one host. Every write resolves when it survives power loss; after one that rejects nothing has changed.
 */
export class HostStore {
  private readonly queue = new SerialQueue();

  /** @param clear all rows in clear; those that are foreign are of guests */
  constructor(
    readonly directory: string,
    private readonly database: Database,
    private readonly lock: DirectoryLock,
    private readonly clear: ClearRows,
  ) {}

  /** Why the last write failed; undefined if it did not. */
  get failure(): string | undefined {
    return this.database.failure;
  }

  /** A host-level record, e.g. the persistent handle's blobs. */
  hostRecord(key: string): Buffer | undefined {
    return this.copy(HOST_PREFIX + key);
  }

  /** Writes host-level records together; `null` deletes. */
  async putHostRecords(changes: ReadonlyMap<string, Buffer | null>): Promise<void> {
    await this.write([...changes].map(([key, value]) => [HOST_PREFIX + key, value]));
  }

  /** Every guest that can be told, by name. */
  guests(): GuestMeta[] {
    const guests = this.decodedGuests().flatMap((guest) => (guest instanceof StoreError ? [] : [guest]));
    return guests.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Why there are guests that {@link guests} leaves out. */
  damagedGuests(): StoreError[] {
    return this.decodedGuests().filter((guest) => guest instanceof StoreError);
  }

  /**
   * Adds a guest.
   * @param keyBlobs what the chip needs to open the guest's keys; opaque here
   */
  async addGuest(meta: GuestMeta, keyBlobs: Buffer): Promise<void> {
    await this.write(guestChanges({ meta, keyBlobs, recovery: null, sealed: [] }));
  }

  async updateGuest(meta: GuestMeta): Promise<void> {
    await this.write([[guestKeys.meta(meta.id), encodeMeta(meta)]]);
  }

  /** Replaces what {@link addGuest} was given as key blobs. */
  async updateKeyBlobs(id: string, keyBlobs: Buffer): Promise<void> {
    await this.write([[guestKeys.keyBlobs(id), keyBlobs]]);
  }

  /** What {@link addGuest} was given. */
  guestKeyBlobs(id: string): Buffer {
    const keyBlobs = this.copy(guestKeys.keyBlobs(id));
    if (keyBlobs === undefined) {
      throw new StoreError(`reading guest ${id}`, "its record 'key-blobs' is missing", 'restore the store from a backup', {
        guest: id,
        record: 'key-blobs',
      });
    }
    return keyBlobs;
  }

  /** The encrypted records of a guest. Only one at a time may write. */
  guestRecords(id: string, stateKey: Buffer): GuestRecordStore {
    return new GuestRecordStore(
      {
        database: {
          read: (prefix) => this.database.read(prefix),
          write: (changes) => this.writeAll([...changes]),
          erase: () => this.database.erase(),
        },
        isUnused: () => this.clear.get(guestKeys.unused(id)) !== undefined,
      },
      id,
      stateKey,
    );
  }

  /** All that is stored of a guest, as of one moment. */
  async storedGuest(meta: GuestMeta): Promise<StoredGuest> {
    const all = guestKeys.all(meta.id);
    const rows = await this.read(all);
    const sealed = rows.map(([key, value]) => [key.slice(all.length), value] as const).filter(([rest]) => !isClear(all + rest));
    return { meta, keyBlobs: this.guestKeyBlobs(meta.id), recovery: this.copy(guestKeys.recovery(meta.id)) ?? null, sealed };
  }

  /** Puts a guest back as {@link storedGuest} gave it, in place of all that is stored under its id. */
  async restoreGuest(guest: StoredGuest): Promise<void> {
    const old = (await this.read(guestKeys.all(guest.meta.id))).map(([key]): Change => [key, null]);
    await this.write([...old, ...guestChanges(guest)]);
  }

  /** Deletes all that is stored of a guest; nothing of it stays in the files. */
  async removeGuest(id: string): Promise<void> {
    await this.write((await this.read(guestKeys.all(id))).map(([key]) => [key, null]));
    await this.database.erase();
  }

  /** Waits for what is being written, then lets another process open the store. */
  async close(): Promise<void> {
    await this.database.close();
    await this.lock.release();
  }

  private decodedGuests(): (GuestMeta | StoreError)[] {
    const foreign = [...this.clear.foreign].flatMap((group) => GUEST_GROUP.exec(group)?.[1] ?? []);
    const ids = [...this.clear.keys()].flatMap((key) => META_KEY.exec(key)?.[1] ?? []);
    return [...new Set([...ids, ...foreign])].map((id) => {
      const meta = this.clear.get(guestKeys.meta(id));
      return meta === undefined ? foreignGuest(id) : decodedMeta(id, meta);
    });
  }

  private copy(key: string): Buffer | undefined {
    const value = this.clear.get(key);
    return value === undefined ? undefined : Buffer.from(value);
  }

  private async read(prefix: string): Promise<[key: string, value: Buffer][]> {
    try {
      return await this.database.read(prefix);
    } catch (error) {
      throw new StoreError('reading the store', reasonOf(error), `check the disk of ${this.directory}`, {}, { cause: error });
    }
  }

  private async write(changes: readonly Change[]): Promise<void> {
    try {
      await this.writeAll(changes);
    } catch (error) {
      throw new StoreError('writing the store', reasonOf(error), `check the disk of ${this.directory}`, {}, { cause: error });
    }
  }

  /** Rejects as the database does. What changes clear rows is written one after the other, for each has a head that follows the last. */
  private writeAll(changes: readonly Change[]): Promise<void> {
    if (!changes.some(([key]) => isClear(key))) return this.database.write(changes);
    return this.queue.run(async () => {
      const prepared = this.clear.prepare(changes);
      await this.database.write(prepared.changes);
      prepared.apply();
    });
  }
}

/** What makes a guest in the database. */
function guestChanges({ meta, keyBlobs, recovery, sealed }: StoredGuest): Change[] {
  const { id } = meta;
  const changes: Change[] = [
    [guestKeys.meta(id), encodeMeta(meta)],
    [guestKeys.keyBlobs(id), keyBlobs],
  ];
  if (recovery !== null) changes.push([guestKeys.recovery(id), recovery]);
  if (sealed.length === 0) changes.push([guestKeys.unused(id), Buffer.alloc(0)]);
  return [...changes, ...sealed.map(([rest, value]): Change => [guestKeys.all(id) + rest, value])];
}

function foreignGuest(id: string): StoreError {
  const why = 'its records in clear are not those that were written last: they were changed, removed, added or put back from an older time';
  const hint = "bring a backup back with 'tpmux guest import --replace', or restore the state directory from a backup";
  return new StoreError(`reading guest ${id}`, why, hint, { guest: id });
}

function decodedMeta(id: string, value: Buffer): GuestMeta | StoreError {
  try {
    return decodeMeta(id, value);
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
}
