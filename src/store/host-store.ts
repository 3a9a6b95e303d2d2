// The state of one host: one SQLite database below the state directory.
import { chmod, mkdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { reasonOf, systemCode } from '../failure.js';
import { Database, DatabaseError, makeDatabase, type Change } from './database.js';
import { lockDirectory, type DirectoryLock } from './directory-lock.js';
import { decodeMeta, encodeMeta, type GuestMeta } from './guest-meta.js';
import { GuestRecordStore, guestKeys } from './guest-record-store.js';
import { StoreError } from './store-error.js';

/** Version of the database's layout. A store of a newer version is refused. */
export const STORE_VERSION = 1;
/** Name of the database below the store's directory. */
export const STORE_FILE = 'store.db';

const VERSION_KEY = 'format';
const HOST_PREFIX = 'host/';
const META_KEY = /^guest\/([^/]+)\/meta$/s;
/** What is in memory too: all but the encrypted records. */
const CLEAR_KEY = /^(format|host\/.*|guest\/[^/]+\/(meta|key-blobs|recovery|unused))$/s;

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
  /** Records in clear, by key, as they are in the database. */
  private readonly clear = new Map<string, Buffer>();

  private constructor(
    readonly directory: string,
    private readonly database: Database,
    private readonly lock: DirectoryLock,
  ) {}

  /**
   * Opens the store in `directory`, and makes it if there is none. `onHealth` is told when {@link failure} changes.
   * Rejects with a {@link Failure} if another daemon has it open.
   */
  static async open(directory: string, onHealth?: (failure: string | undefined) => void): Promise<HostStore> {
    const path = resolve(directory);
    await mkdir(path, { recursive: true, mode: 0o700 });
    await chmod(path, 0o700);
    const lock = await lockDirectory(path, 'state directory');
    try {
      const database = await openDatabase(path);
      database.onHealth = onHealth;
      const store = new HostStore(path, database, lock);
      await store.start().catch(async (error: unknown) => {
        await database.close();
        throw error;
      });
      return store;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** Why the last write failed; undefined if it did not. */
  get failure(): string | undefined {
    return this.database.failure;
  }

  /** A host-level record in clear, e.g. the persistent handle's blobs. */
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
    return new GuestRecordStore({ database: this.database, isUnused: () => this.clear.has(guestKeys.unused(id)) }, id, stateKey);
  }

  /** All that is stored of a guest, as of one moment. */
  async storedGuest(meta: GuestMeta): Promise<StoredGuest> {
    const all = guestKeys.all(meta.id);
    const rows = await this.read(all);
    const sealed = rows.map(([key, value]) => [key.slice(all.length), value] as const).filter(([rest]) => !CLEAR_KEY.test(all + rest));
    return { meta, keyBlobs: this.guestKeyBlobs(meta.id), recovery: this.copy(guestKeys.recovery(meta.id)) ?? null, sealed };
  }

  /** Puts a guest back as {@link storedGuest} gave it, in place of all that is stored under its id. */
  async restoreGuest(guest: StoredGuest): Promise<void> {
    const old = (await this.read(guestKeys.all(guest.meta.id))).map(([key]): Change => [key, null]);
    await this.write([...old, ...guestChanges(guest)]);
  }

  /** Deletes all that is stored of a guest. */
  async removeGuest(id: string): Promise<void> {
    await this.write((await this.read(guestKeys.all(id))).map(([key]) => [key, null]));
  }

  /** Waits for what is being written, then lets another process open the store. */
  async close(): Promise<void> {
    await this.database.close();
    await this.lock.release();
  }

  private decodedGuests(): (GuestMeta | StoreError)[] {
    return [...this.clear].flatMap(([key, value]) => {
      const id = META_KEY.exec(key)?.[1];
      return id === undefined ? [] : [decodedMeta(id, value)];
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
      await this.database.write(changes);
    } catch (error) {
      throw new StoreError('writing the store', reasonOf(error), `check the disk of ${this.directory}`, {}, { cause: error });
    }
    for (const [key, value] of changes) {
      if (value === null) this.clear.delete(key);
      else if (CLEAR_KEY.test(key)) this.clear.set(key, Buffer.from(value));
    }
  }

  private async start(): Promise<void> {
    const rows = await this.read('');
    for (const [key, value] of rows) if (CLEAR_KEY.test(key)) this.clear.set(key, value);
    const version = this.clear.get(VERSION_KEY)?.toString('latin1');
    if (version === undefined) throw this.refused("its record 'format' is missing");
    if (!/^[1-9][0-9]{0,8}$/.test(version)) throw this.refused("its record 'format' is damaged");
    if (Number(version) > STORE_VERSION) {
      const known = STORE_VERSION.toString();
      throw this.refused(`it has format ${version}, this tpmux knows up to ${known}`, 'use the newer tpmux that wrote it');
    }
  }

  private refused(why: string, hint = 'restore the state directory from a backup'): StoreError {
    return new StoreError(`opening the store ${this.directory}`, why, hint);
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

function decodedMeta(id: string, value: Buffer): GuestMeta | StoreError {
  try {
    return decodeMeta(id, value);
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
}

async function openDatabase(path: string): Promise<Database> {
  const file = join(path, STORE_FILE);
  try {
    const size = await sizeOf(file);
    if (size === 0) throw new DatabaseError({ code: 'SQLITE_NOTADB', message: '' });
    if (size === undefined) await makeDatabase(file, [[VERSION_KEY, Buffer.from(STORE_VERSION.toString())]]);
    return await Database.open(file);
  } catch (error) {
    const damaged = error instanceof DatabaseError && error.isDamage;
    const hint = damaged ? 'restore the state directory from a backup; the file is left as it is' : `check the disk of ${path}`;
    throw new StoreError(`opening the store ${path}`, reasonOf(error), hint, {}, { cause: error });
  }
}

/** Undefined if there is no such file. */
async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
