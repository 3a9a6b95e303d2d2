// The thread that has the database open: everything that may wait for the disk happens here.
import { parentPort, workerData } from 'node:worker_threads';
import BetterSqlite from 'better-sqlite3';

/** One key and its new value; `null` deletes. */
export type Change = readonly [key: string, value: Uint8Array | null];
export type Row = readonly [key: string, value: Uint8Array];

/** What the thread is asked. `groups`: each is applied whole or not at all. */
export type Request = { readonly id: number } & (
  | { readonly kind: 'make' | 'check' | 'erase' }
  | { readonly kind: 'read'; readonly from: string; readonly to: string }
  | { readonly kind: 'write'; readonly groups: readonly (readonly Change[])[] }
  | { readonly kind: 'close' }
);

/** Why the database did not do it; `code` is SQLite's, e.g. `SQLITE_FULL`. */
export interface DatabaseTrouble {
  readonly code: string;
  readonly message: string;
}

/** Rows of a read; of a write what happened to each group. */
export type Answer = { readonly id: number } & (
  { readonly rows: readonly Row[] } | { readonly results: readonly (DatabaseTrouble | null)[] } | { readonly trouble: DatabaseTrouble }
);

const SCHEMA = 'CREATE TABLE record (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID, STRICT';
const BUSY_TIMEOUT_MS = 2000;

/** Path of the file, which exists. */
const file = workerData as string;
let database: BetterSqlite.Database | undefined;

/**
 * The connection. Exclusive locking keeps the index of the write-ahead log in memory, so there is no mapped file that a full disk can
 * turn into a signal. `synchronous` is no property of the file, and SQLite is commonly built with less than FULL: it is set every time.
 */
function connection(): BetterSqlite.Database {
  if (database !== undefined) return database;
  const opened = new BetterSqlite(file, { fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    opened.pragma('locking_mode = EXCLUSIVE');
    opened.pragma('journal_mode = WAL');
    opened.pragma('synchronous = FULL');
    opened.pragma('secure_delete = ON');
    opened.pragma('trusted_schema = OFF');
    opened.pragma('cell_size_check = ON');
    if (opened.pragma('synchronous', { simple: true }) !== 2) throw new Error('the database cannot be set to write durably');
  } catch (error) {
    opened.close();
    throw error;
  }
  database = opened;
  return opened;
}

function check(): void {
  const found = connection().pragma('quick_check(1)', { simple: true });
  if (found !== 'ok') throw Object.assign(new Error(`it is damaged: ${String(found)}`), { code: 'SQLITE_CORRUPT' });
}

/** Of what was replaced or deleted nothing stays, neither in pages nor in the write-ahead log. */
function erase(): void {
  const [result] = connection().pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[];
  if (result?.busy !== 0) throw Object.assign(new Error('the write-ahead log is in use'), { code: 'SQLITE_BUSY' });
}

function apply(groups: readonly (readonly Change[])[]): void {
  const opened = connection();
  const put = opened.prepare('INSERT INTO record (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value');
  const remove = opened.prepare('DELETE FROM record WHERE key = ?');
  opened.exec('BEGIN IMMEDIATE');
  try {
    for (const group of groups) {
      for (const [key, value] of group) {
        if (value === null) remove.run(key);
        else put.run(key, value);
      }
    }
    opened.exec('COMMIT');
  } catch (error) {
    rollBack(opened);
    throw error;
  }
}

/** A connection that cannot roll back is given up: the next one finds what the file has. */
function rollBack(opened: BetterSqlite.Database): void {
  try {
    if (opened.inTransaction) opened.exec('ROLLBACK');
    if (!opened.inTransaction) return;
  } catch {
    // Given up below.
  }
  database = undefined;
  opened.close();
}

/** All groups in one transaction; if that fails, one by one: there may be room for the smaller. */
function write(groups: readonly (readonly Change[])[]): (DatabaseTrouble | null)[] {
  try {
    apply(groups);
    return groups.map(() => null);
  } catch (error) {
    if (groups.length === 1) return [troubleOf(error)];
  }
  return groups.map((group) => {
    try {
      apply([group]);
      return null;
    } catch (error) {
      return troubleOf(error);
    }
  });
}

function read(from: string, to: string): Row[] {
  const rows = connection().prepare('SELECT key, value FROM record WHERE key >= ? AND key < ? ORDER BY key').raw();
  return rows.all(from, to) as Row[];
}

function troubleOf(error: unknown): DatabaseTrouble {
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
  return { code, message: error instanceof Error ? error.message : String(error) };
}

function answer(request: Request): Answer {
  const { id } = request;
  try {
    switch (request.kind) {
      case 'make':
        connection().exec(SCHEMA);
        break;
      case 'check':
        check();
        break;
      case 'erase':
        erase();
        break;
      case 'read':
        return { id, rows: read(request.from, request.to) };
      case 'write':
        return { id, results: write(request.groups) };
      case 'close':
        database?.close();
        database = undefined;
    }
    return { id, rows: [] };
  } catch (error) {
    return { id, trouble: troubleOf(error) };
  }
}

const port = parentPort;
port?.on('message', (request: Request) => {
  port.postMessage(answer(request));
  if (request.kind === 'close') port.close();
});
