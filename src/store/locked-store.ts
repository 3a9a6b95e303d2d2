// The store before the host's secret is known: nothing in it is to be believed but what leads to the chip, which knows the secret.
import { chmod, mkdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { EXIT, Failure, reasonOf, systemCode } from '../failure.js';
import { ClearRows, HEAD_KEY, isClear } from './clear-rows.js';
import { Database, DatabaseError, makeDatabase } from './database.js';
import { lockDirectory, type DirectoryLock } from './directory-lock.js';
import { HostStore } from './host-store.js';
import { StoreError } from './store-error.js';

/** Version of the database's layout. A store of a newer version is refused. */
const STORE_VERSION = 1;
/** Name of the database below the store's directory. */
export const STORE_FILE = 'store.db';

const VERSION_KEY = 'format';
const HOST_PREFIX = 'host/';
const GUEST_PREFIX = 'guest/';
/** Most records that a message names. */
const MAX_NAMED = 5;

/** The host records that can be read and written before the store is unlocked: they say where the secret is in the chip. */
export type BootRecord = 'hardware' | 'host-secret';

/** How {@link LockedStore.unlock} takes what it finds. */
export interface UnlockOptions {
  /**
   * Told why the records are not those that were written last, before they are refused or let pass.
   */
  readonly onDetected?: ((reason: string) => void | Promise<void>) | undefined;
  /** Whether what is detected is let pass: all records are good as they are then. */
  readonly allow?: boolean | undefined;
}

/** A store that is open for this process alone, and not trusted yet. */
export class LockedStore {
  private constructor(
    readonly directory: string,
    private readonly database: Database,
    private readonly lock: DirectoryLock,
    /** All clear rows as they are stored. */
    private readonly rows: Map<string, Buffer>,
  ) {}

  /**
   * Opens the store in `directory`, and makes it if there is none. `onHealth` is told when {@link HostStore.failure} changes.
   * Rejects with a {@link Failure} if another daemon has it open, with a {@link StoreError} if it cannot be read.
   */
  static async open(directory: string, onHealth?: (failure: string | undefined) => void): Promise<LockedStore> {
    const path = resolve(directory);
    await mkdir(path, { recursive: true, mode: 0o700 });
    await chmod(path, 0o700);
    const lock = await lockDirectory(path, 'state directory');
    try {
      const database = await openDatabase(path);
      database.onHealth = onHealth;
      try {
        const rows = new Map(await readAll(path, database));
        checkVersion(path, rows.get(VERSION_KEY));
        return new LockedStore(path, database, lock, rows);
      } catch (error) {
        await database.close();
        throw error;
      }
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** A host record that leads to the chip. Whoever reads it checks it against the chip. */
  hostRecord(name: BootRecord): Buffer | undefined {
    const row = this.rows.get(HOST_PREFIX + name);
    return row === undefined ? undefined : Buffer.from(row);
  }

  /** Writes host records of a new store. Rejects with a {@link StoreError}; they are not to be written again once it was unlocked. */
  async putHostRecords(changes: ReadonlyMap<BootRecord, Buffer>): Promise<void> {
    const rows = [...changes].map(([name, value]) => [HOST_PREFIX + name, value] as const);
    try {
      await this.database.write(rows);
    } catch (error) {
      throw new StoreError('writing the store', reasonOf(error), `check the disk of ${this.directory}`, {}, { cause: error });
    }
    for (const [key, value] of rows) this.rows.set(key, Buffer.from(value));
  }

  /** How many guests there seem to be. */
  get guestCount(): number {
    return [...this.rows.keys()].filter((key) => /^guest\/[^/]+\/meta$/.test(key)).length;
  }

  /**
   * Compares the records with what was written last. Rejects with a {@link Failure} (exit code 3) if they are others, unless that is
   * allowed. If only records of guests are, these guests are among {@link HostStore.damagedGuests}. This object is not used after that.
   * @param secret the host's, 32 bytes; no view of it is kept
   */
  async unlock(secret: Buffer, { onDetected, allow = false }: UnlockOptions = {}): Promise<HostStore> {
    const rows = new ClearRows(this.rows, secret);
    const why = rows.mismatch ?? foreignRecords(rows);
    if (why !== undefined && (allow || !isOfGuests(rows))) {
      await onDetected?.(why);
      if (!allow) throw notNewest(this.directory, why);
    }
    if (rows.isNew || (why !== undefined && allow)) await this.accept(rows);
    return new HostStore(this.directory, this.database, this.lock, rows);
  }

  /** Lets another process open the store. */
  async close(): Promise<void> {
    await this.database.close();
    await this.lock.release();
  }

  private async accept(rows: ClearRows): Promise<void> {
    const { changes, apply } = rows.prepareAcceptance();
    try {
      await this.database.write(changes);
    } catch (error) {
      throw new StoreError('writing the store', reasonOf(error), `check the disk of ${this.directory}`, {}, { cause: error });
    }
    apply();
  }
}

/** Whether nothing but records of guests is not what was written last. */
function isOfGuests({ mismatch, foreign }: ClearRows): boolean {
  return mismatch === undefined && [...foreign].every((group) => group.startsWith(GUEST_PREFIX));
}

function foreignRecords({ foreign }: ClearRows): string | undefined {
  if (foreign.size === 0) return undefined;
  const names = [...foreign].map((group) => (group.startsWith(HOST_PREFIX) ? `host record '${group.slice(HOST_PREFIX.length)}'` : group));
  const more = names.length > MAX_NAMED ? ` and ${(names.length - MAX_NAMED).toString()} others` : '';
  return `not as it was written last, but changed, removed, added or put back from an older time: ${names.slice(0, MAX_NAMED).join(', ')}${more}`;
}

function notNewest(directory: string, why: string): Failure {
  const hint = "put the newest state back, or accept this one by starting once with 'rollback: {when-detected: allow}'";
  return new Failure({ code: 'rollback', what: `opening the store ${directory}`, why, hint, exit: EXIT.refused });
}

function checkVersion(path: string, row: Buffer | undefined): void {
  const refused = (why: string, hint = 'restore the state directory from a backup'): StoreError =>
    new StoreError(`opening the store ${path}`, why, hint);
  const version = row?.toString('latin1');
  if (version === undefined) throw refused("its record 'format' is missing");
  if (!/^[1-9][0-9]{0,8}$/.test(version)) throw refused("its record 'format' is damaged");
  if (Number(version) > STORE_VERSION) {
    const known = STORE_VERSION.toString();
    throw refused(`it has format ${version}, this tpmux knows up to ${known}`, 'use the newer tpmux that wrote it');
  }
}

/** All rows that are not a guest's encrypted records. */
async function readAll(path: string, database: Database): Promise<[key: string, value: Buffer][]> {
  try {
    return (await database.read('')).filter(([key]) => isClear(key) || key === HEAD_KEY);
  } catch (error) {
    throw new StoreError('reading the store', reasonOf(error), `check the disk of ${path}`, {}, { cause: error });
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
