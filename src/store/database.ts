// The host's database as the rest of the store sees it: records by key, on SQLite in a thread of its own.
import { open as openFile, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { reasonOf } from '../failure.js';
import type { Answer, Change, DatabaseTrouble, Request, Row } from './database-worker.js';

export type { Change } from './database-worker.js';

/** When a write that failed is tried again, in milliseconds after the failure: what passes at once is not noticed. */
const RETRY_DELAYS: readonly number[] = [0, 20, 80, 200];
// Keys are printable ASCII, so this sorts after every key that has the prefix.
const AFTER_PREFIX = '\x7f';

/** A failure of the database, with SQLite's code. The message is for users. */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
  readonly code: string;

  constructor({ code, message }: DatabaseTrouble) {
    super(explain(code, message));
    this.code = code;
  }

  /** The file is not what SQLite wrote; trying again is of no use. */
  get isDamage(): boolean {
    return this.code.startsWith('SQLITE_CORRUPT') || this.code === 'SQLITE_NOTADB';
  }
}

function explain(code: string, message: string): string {
  switch (code) {
    case 'SQLITE_FULL':
      return 'the disk is full';
    case 'SQLITE_BUSY':
      return 'another program has the database open';
    case 'SQLITE_NOTADB':
      return 'the file is not a database';
    default:
      return code === '' ? message : `${message} (${code})`;
  }
}

type Parts<R> = R extends { readonly id: number } ? Omit<R, 'id'> : never;

interface Waiting {
  readonly group: readonly Change[];
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * The database. Writes that come while one is under way are put together into one transaction, so that many guests share
 * one flush of the disk; the event loop never waits for it. Methods reject with {@link DatabaseError}.
 */
export class Database {
  private worker: Worker | undefined;
  private readonly asked = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  private nextId = 0;
  private waiting: Waiting[] = [];
  private writing = false;
  /** Why the last write failed; undefined if it did not. */
  failure: string | undefined;
  /** Told when {@link failure} comes or goes. */
  onHealth: ((failure: string | undefined) => void) | undefined;

  private constructor(private readonly file: string) {}

  /** Opens the database at `file` and reads it through once. */
  static async open(file: string): Promise<Database> {
    const database = new Database(file);
    try {
      await database.ask({ kind: 'check' });
      return database;
    } catch (error) {
      await database.close().catch(() => undefined);
      throw error;
    }
  }

  /** Fills an empty file. */
  static async make(file: string, records: Iterable<Change>): Promise<void> {
    const database = new Database(file);
    try {
      await database.ask({ kind: 'make' });
      await database.write(records);
    } finally {
      await database.close();
    }
  }

  /** All records whose key begins with `prefix`, in key order. */
  async read(prefix: string): Promise<[key: string, value: Buffer][]> {
    const answer = await this.ask({ kind: 'read', from: prefix, to: prefix + AFTER_PREFIX });
    if (!('rows' in answer)) return [];
    return answer.rows.map(([key, value]: Row) => [key, Buffer.from(value.buffer, value.byteOffset, value.byteLength)]);
  }

  /**
   * Applies all changes or none; resolves when they survive power loss. A failure is met with some more attempts, within half a second;
   * after a rejection nothing has changed.
   */
  async write(changes: Iterable<Change>): Promise<void> {
    const group = [...changes];
    for (const delay of [...RETRY_DELAYS, undefined]) {
      try {
        await this.writeOnce(group);
        this.setFailure(undefined);
        return;
      } catch (error) {
        if (delay === undefined || (error instanceof DatabaseError && error.isDamage)) {
          this.setFailure(reasonOf(error));
          throw error;
        }
        await sleep(delay);
      }
    }
  }

  /** Of what was replaced or deleted by then nothing stays in the files. */
  async erase(): Promise<void> {
    await this.ask({ kind: 'erase' });
  }

  /** Waits for what is under way and closes the file. */
  async close(): Promise<void> {
    const { worker } = this;
    if (worker === undefined) return;
    await this.ask({ kind: 'close' }).catch(() => undefined);
    this.worker = undefined;
    await worker.terminate();
  }

  private setFailure(failure: string | undefined): void {
    const changed = (failure === undefined) !== (this.failure === undefined);
    this.failure = failure;
    if (changed) this.onHealth?.(failure);
  }

  private writeOnce(group: readonly Change[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ group, resolve, reject });
      if (!this.writing) void this.writeWaiting();
    });
  }

  private async writeWaiting(): Promise<void> {
    this.writing = true;
    while (this.waiting.length > 0) {
      const batch = this.waiting;
      this.waiting = [];
      try {
        const answer = await this.ask({ kind: 'write', groups: batch.map(({ group }) => group) });
        const results = 'results' in answer ? answer.results : [];
        batch.forEach(({ resolve, reject }, i) => {
          const trouble = results[i];
          if (trouble === null) resolve();
          else reject(new DatabaseError(trouble ?? { code: '', message: 'the database gave no answer' }));
        });
      } catch (error) {
        for (const { reject } of batch) reject(error as Error);
      }
    }
    this.writing = false;
  }

  private async ask(request: Parts<Request>): Promise<Answer> {
    const worker = (this.worker ??= this.startWorker());
    const id = this.nextId++;
    worker.ref();
    const answer = await new Promise<Answer>((resolve, reject) => {
      this.asked.set(id, { resolve, reject });
      worker.postMessage({ ...request, id });
    });
    if ('trouble' in answer) throw new DatabaseError(answer.trouble);
    return answer;
  }

  /** A thread that ended by itself is replaced: the file is as a crash would have left it, and whole. */
  private startWorker(): Worker {
    const worker = newWorker(this.file);
    worker.on('message', (answer: Answer) => {
      this.asked.get(answer.id)?.resolve(answer);
      this.asked.delete(answer.id);
      if (this.asked.size === 0) worker.unref();
    });
    const ended = (message: string): void => {
      if (this.worker === worker) this.worker = undefined;
      for (const { reject } of this.asked.values()) reject(new DatabaseError({ code: '', message }));
      this.asked.clear();
    };
    worker.on('error', (error) => {
      ended(`the thread of the database failed: ${error.message}`);
    });
    worker.on('exit', () => {
      if (this.worker === worker) ended('the thread of the database ended');
    });
    return worker;
  }
}

/** Run from its sources, the program needs its loader in each thread. */
function newWorker(file: string): Worker {
  if (!import.meta.url.endsWith('.ts')) return new Worker(new URL('./database-worker.js', import.meta.url), { workerData: file });
  const program = [createRequire(import.meta.url).resolve('tsx/cjs'), fileURLToPath(new URL('./database-worker.ts', import.meta.url))];
  return new Worker(program.map((path) => `require(${JSON.stringify(path)});`).join(''), { eval: true, workerData: file });
}

/**
 * Makes a database that holds `records`. It gets its name when it is complete, so a file of that name that is empty or cut
 * short is never a database that was about to be made.
 */
export async function makeDatabase(file: string, records: Iterable<Change>): Promise<void> {
  const unfinished = `${file}.new`;
  for (const end of ['', '-wal', '-journal']) await rm(unfinished + end, { force: true });
  await (await openFile(unfinished, 'wx', 0o600)).close();
  await Database.make(unfinished, records);
  await rename(unfinished, file);
  for (const directory of [dirname(file), dirname(dirname(file))]) await syncDirectory(directory);
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await openFile(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
