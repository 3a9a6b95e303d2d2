// The state of one host: one LMDB database below the state directory.
import { chmod, mkdir, open as openFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import { reasonOf } from '../failure.js';
import { databaseDamage } from './database-check.js';
import { lockDirectory, type DirectoryLock } from './directory-lock.js';
import { requireRoom, writeDurably } from './durable-write.js';
import { decodeMeta, encodeMeta, type GuestMeta } from './guest-meta.js';
import { GuestRecordStore, guestKeys, prefixRange } from './guest-record-store.js';
import { StoreError } from './store-error.js';

/** Version of the database's layout. A store of a newer version is refused. */
export const STORE_VERSION = 1;

const VERSION_KEY = 'format';
const HOST_PREFIX = 'host/';
const GUEST_PREFIX = 'guest/';

/**
 * All durable state of one host. Every write resolves when it survives power loss: LMDB syncs the pages, then writes its meta page
 * with O_DSYNC, before the promise of the write resolves (`overlappingSync` would resolve it earlier).
 */
export class HostStore {
  private constructor(
    readonly directory: string,
    private readonly database: RootDatabase<Buffer, string>,
    private readonly lock: DirectoryLock,
  ) {}

  /** Opens the store in `directory`, and makes it if there is none. Rejects with a {@link Failure} if another daemon has it open. */
  static async open(directory: string): Promise<HostStore> {
    const path = resolve(directory);
    await mkdir(path, { recursive: true, mode: 0o700 });
    await chmod(path, 0o700);
    const lock = await lockDirectory(path, 'state directory');
    try {
      const database = await openDatabase(path);
      const store = new HostStore(path, database, lock);
      await store.checkVersion().catch(async (error: unknown) => {
        await database.close();
        throw error;
      });
      return store;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** A host-level record in clear, e.g. the persistent handle's blobs. */
  hostRecord(key: string): Buffer | undefined {
    return this.copy(HOST_PREFIX + key);
  }

  /** Writes host-level records together; `null` deletes. */
  async putHostRecords(changes: ReadonlyMap<string, Buffer | null>): Promise<void> {
    await this.write([...changes].map(([key, value]) => [HOST_PREFIX + key, value]));
  }

  /** Every guest that there is, by name. */
  guests(): GuestMeta[] {
    const guests: GuestMeta[] = [];
    for (const { key, value } of this.database.getRange(prefixRange(GUEST_PREFIX))) {
      const [, id, record] = key.split('/', 3);
      if (id !== undefined && record === 'meta') guests.push(decodeMeta(id, value));
    }
    return guests.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * Adds a guest.
   * @param identity what the chip needs to open the guest's keys; opaque here
   */
  async addGuest(meta: GuestMeta, identity: Buffer): Promise<void> {
    await this.write([
      [guestKeys.meta(meta.id), encodeMeta(meta)],
      [guestKeys.identity(meta.id), identity],
      [guestKeys.unused(meta.id), Buffer.alloc(0)],
    ]);
  }

  async updateGuest(meta: GuestMeta): Promise<void> {
    await this.write([[guestKeys.meta(meta.id), encodeMeta(meta)]]);
  }

  /** What {@link addGuest} was given. */
  guestIdentity(id: string): Buffer {
    const identity = this.copy(guestKeys.identity(id));
    if (identity === undefined) {
      throw new StoreError(`reading guest ${id}`, "its record 'identity' is missing", 'restore the store from a backup', {
        guest: id,
        record: 'identity',
      });
    }
    return identity;
  }

  /** The encrypted records of a guest. Only one at a time may write. */
  guestRecords(id: string, stateKey: Buffer): GuestRecordStore {
    return new GuestRecordStore(this.database, this.directory, id, stateKey);
  }

  /** Deletes all that is stored of a guest. */
  async removeGuest(id: string): Promise<void> {
    const keys = [...this.database.getKeys(prefixRange(guestKeys.all(id)))];
    await this.write(keys.map((key) => [key, null]));
  }

  /** Waits for what is being written, then lets another process open the store. */
  async close(): Promise<void> {
    await this.database.close();
    await this.lock.release();
  }

  private copy(key: string): Buffer | undefined {
    const value = this.database.get(key);
    return value === undefined ? undefined : Buffer.from(value);
  }

  private async write(changes: readonly (readonly [string, Buffer | null])[]): Promise<void> {
    try {
      // Deleting makes room, so it goes on where there is little.
      if (changes.some(([, value]) => value !== null)) requireRoom(this.directory);
      await writeDurably(this.database, changes);
    } catch (error) {
      throw new StoreError('writing the store', reasonOf(error), `check the disk of ${this.directory}`, {}, { cause: error });
    }
  }

  private async checkVersion(): Promise<void> {
    const record = this.database.get(VERSION_KEY);
    if (record === undefined) {
      const empty = this.database.getKeysCount({ limit: 1 }) === 0;
      if (!empty) throw this.refused("its record 'format' is missing", 'restore the store from a backup');
      await this.write([[VERSION_KEY, Buffer.from(STORE_VERSION.toString())]]);
      return;
    }
    const version = Number(record.toString('latin1'));
    if (!Number.isSafeInteger(version) || version < 1)
      throw this.refused("its record 'format' is damaged", 'restore the store from a backup');
    if (version > STORE_VERSION) {
      const known = STORE_VERSION.toString();
      throw this.refused(`it has format ${version.toString()}, this tpmux knows up to ${known}`, 'use the newer tpmux that wrote it');
    }
  }

  private refused(why: string, hint: string): StoreError {
    return new StoreError(`opening the store ${this.directory}`, why, hint);
  }
}

async function openDatabase(path: string): Promise<RootDatabase<Buffer, string>> {
  const file = join(path, 'data.mdb');
  const isNew = !(await exists(file));
  const damage = isNew ? undefined : await databaseDamage(path);
  if (damage !== undefined) throw new StoreError(`opening the store ${path}`, damage, 'restore it from a backup');
  const database = open<Buffer, string>({ path, encoding: 'binary', noSubdir: false, overlappingSync: false });
  await Promise.all([file, join(path, 'lock.mdb')].map((name) => chmod(name, 0o600)));
  // The entry of a new file is durable only when its directory is.
  if (isNew) for (const directory of [path, dirname(path)]) await syncDirectory(directory);
  return database;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await openFile(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
