// Writing to LMDB so that a full or failing disk is an error of the write, and of nothing else.
import { statfsSync } from 'node:fs';
import type { Database } from 'lmdb';
import { reasonOf } from '../failure.js';

const MIB = 1024 * 1024;
/** Room that must be left on the disk for a write to begin, in bytes; far more than one transaction takes. */
export const DISK_RESERVE = 8 * MIB;

/**
 * Throws an Error if the disk of `directory` is as good as full. LMDB must not find that out itself: lmdb 3.5 damages the heap of the
 * process when a commit fails for want of space.
 */
export function requireRoom(directory: string): void {
  const { bavail, bsize } = statfsSync(directory);
  const free = bavail * bsize;
  if (free >= DISK_RESERVE) return;
  throw new Error(
    `the disk has ${(Math.floor((free / MIB) * 10) / 10).toString()} MiB free, and ${(DISK_RESERVE / MIB).toString()} MiB are kept in reserve`,
  );
}

/**
 * Writes all changes in one transaction (`null` deletes); resolves when they survive power loss. Rejects with an Error whose message
 * is the reason.
 */
export async function writeDurably(database: Database<Buffer, string>, changes: Iterable<readonly [string, Buffer | null]>): Promise<void> {
  try {
    await database.batch(() => {
      for (const [key, value] of changes) {
        // The parts fail with the whole, which is awaited.
        (value === null ? database.remove(key) : database.put(key, value)).catch(() => undefined);
      }
    });
  } catch (error) {
    throw new Error(await commitReason(error), { cause: error });
  }
}

/** lmdb rejects a failed commit with an error that holds the promise of the real one. */
async function commitReason(error: unknown): Promise<string> {
  if (!(error instanceof Error) || !('commitError' in error)) return reasonOf(error);
  try {
    await error.commitError;
  } catch (cause) {
    return reasonOf(cause);
  }
  return error.message;
}
