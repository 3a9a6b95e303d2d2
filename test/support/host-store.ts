// A store without a chip: its secret is known.
import { join } from 'node:path';
import { Database } from '../../src/store/database.js';
import { LockedStore, STORE_FILE } from '../../src/store/locked-store.js';
import type { HostStore } from '../../src/store/host-store.js';

/** The secret of stores that tests make. */
export const STORE_SECRET = Buffer.alloc(32, 0x5e);

/** Opens the store in `directory`, and makes it if there is none. Rejects as opening and unlocking do. */
export async function openHostStore(directory: string, onHealth?: (failure: string | undefined) => void): Promise<HostStore> {
  const locked = await LockedStore.open(directory, onHealth);
  try {
    return await locked.unlock(STORE_SECRET);
  } catch (error) {
    await locked.close();
    throw error;
  }
}

/** All rows of a store that nobody has open, as they are stored. */
export async function storedRows(directory: string): Promise<Map<string, Buffer>> {
  return withDatabase(directory, async (database) => new Map(await database.read('')));
}

/** Writes rows of a store that nobody has open, as somebody does who has its file; null deletes. */
export async function forgeRows(directory: string, changes: Iterable<readonly [key: string, row: Buffer | null]>): Promise<void> {
  await withDatabase(directory, (database) => database.write(changes));
}

async function withDatabase<T>(directory: string, use: (database: Database) => Promise<T>): Promise<T> {
  const database = await Database.open(join(directory, STORE_FILE));
  try {
    return await use(database);
  } finally {
    await database.close();
  }
}
