import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, stat, truncate, writeFile, open as openFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite from 'better-sqlite3';
import type { GuestMeta } from '../../src/store/guest-meta.js';
import type { HostStore } from '../../src/store/host-store.js';
import { openHostStore } from '../support/host-store.js';
import { StoreError } from '../../src/store/store-error.js';

const metaOf = (name: string, id: string): GuestMeta => ({
  id,
  name,
  created: '2026-01-02T03:04:05.678Z',
  policy: null,
  listen: {},
  autostart: false,
});
const A = '11111111-1111-4111-8111-111111111111';
const B = '22222222-2222-4222-8222-222222222222';

describe('the store of a host', () => {
  let directory: string;
  let key: Buffer;

  beforeEach(async () => {
    directory = join(await mkdtemp(join(tmpdir(), 'tpmux-store-')), 'store');
    key = randomBytes(32);
  });
  afterEach(() => rm(join(directory, '..'), { recursive: true }));

  /** Changes the database behind the store's back. */
  const tamper = (change: (get: (key: string) => Buffer | undefined, put: (key: string, value: Buffer | null) => void) => void): void => {
    const raw = new BetterSqlite(join(directory, 'store.db'));
    change(
      (name) => raw.prepare('SELECT value FROM record WHERE key = ?').pluck().get(name) as Buffer | undefined,
      (name, value) => {
        if (value === null) raw.prepare('DELETE FROM record WHERE key = ?').run(name);
        else raw.prepare('INSERT OR REPLACE INTO record VALUES (?, ?)').run(name, value);
      },
    );
    raw.close();
  };
  const withStore = async <T>(use: (store: HostStore) => Promise<T>): Promise<T> => {
    const store = await openHostStore(directory);
    try {
      return await use(store);
    } finally {
      await store.close();
    }
  };
  const prepared = (): Promise<void> =>
    withStore(async (store) => {
      for (const [name, id] of [
        ['a', A],
        ['b', B],
      ] as const) {
        await store.addGuest(metaOf(name, id), Buffer.from(`keys of ${name}`));
        const records = store.guestRecords(id, key);
        await records.commit(
          new Map([
            ['nv/1', Buffer.from(`${name} one`)],
            ['nv/2', Buffer.from(`${name} two`)],
          ]),
        );
        await records.commit(new Map([['clock', Buffer.from(`${name} clock`)]]));
      }
    });
  const loading = (id: string, stateKey = key): Promise<[string, Buffer][]> =>
    withStore((store) => store.guestRecords(id, stateKey).load(''));
  const refuses = async (id: string, record: string, why: RegExp, stateKey = key): Promise<void> => {
    await assert.rejects(loading(id, stateKey), (error: unknown) => {
      assert.ok(error instanceof StoreError);
      assert.equal(error.guest, id);
      assert.equal(error.record, record);
      assert.match(error.message, why);
      assert.notEqual(error.hint, '');
      return true;
    });
  };

  it('gives back what was committed, in key order and by prefix', async () => {
    await prepared();
    await withStore(async (store) => {
      assert.deepEqual(
        store.guests().map((guest) => guest.name),
        ['a', 'b'],
      );
      assert.equal(store.guestKeyBlobs(A).toString(), 'keys of a');
      const records = store.guestRecords(A, key);
      assert.deepEqual(
        (await records.load('')).map(([name, value]) => [name, value.toString()]),
        [
          ['clock', 'a clock'],
          ['nv/1', 'a one'],
          ['nv/2', 'a two'],
        ],
      );
      assert.deepEqual(
        (await records.load('nv/')).map(([name]) => name),
        ['nv/1', 'nv/2'],
      );
      assert.equal(await records.sequence(), 2n);
      await records.commit(
        new Map([
          ['nv/1', null],
          ['nv/3', Buffer.alloc(0)],
        ]),
      );
    });
    assert.deepEqual(
      (await loading(A)).map(([name]) => name),
      ['clock', 'nv/2', 'nv/3'],
    );
  });

  it('numbers commits that are not awaited in the order of the calls', async () => {
    await prepared();
    await withStore(async (store) => {
      const records = store.guestRecords(A, key);
      await Promise.all(Array.from({ length: 50 }, (_, i) => records.commit(new Map([['clock', Buffer.from(i.toString())]]))));
    });
    assert.equal((await loading(A))[0]?.[1].toString(), '49');
  });

  it('is readable by its owner only', async () => {
    await prepared();
    assert.equal((await stat(directory)).mode & 0o777, 0o700);
    for (const file of ['store.db']) assert.equal((await stat(join(directory, file))).mode & 0o777, 0o600);
  });

  it('holds no value in clear', async () => {
    await prepared();
    const handle = await openFile(join(directory, 'store.db'));
    const bytes = await handle.readFile();
    await handle.close();
    assert.ok(bytes.includes('keys of a'));
    assert.ok(!bytes.includes('a clock'));
  });

  it('refuses the wrong state key', async () => {
    await prepared();
    await refuses(A, 'head', /not authentic/, randomBytes(32));
  });

  it('refuses an edited record', async () => {
    await prepared();
    for (const at of [9, 25, -1]) {
      tamper((get, put) => {
        const value = Buffer.from(get(`guest/${A}/record/nv/1`) ?? []);
        const index = at < 0 ? value.length + at : at;
        value[index] = (value[index] ?? 0) ^ 1;
        put(`guest/${A}/record/nv/1`, value);
      });
      await refuses(A, 'nv/1', /not authentic/);
      tamper((get, put) => {
        const value = Buffer.from(get(`guest/${A}/record/nv/1`) ?? []);
        const index = at < 0 ? value.length + at : at;
        value[index] = (value[index] ?? 0) ^ 1;
        put(`guest/${A}/record/nv/1`, value);
      });
    }
    assert.equal((await loading(A)).length, 3);
  });

  it('refuses a record of another guest or of another place, even under the same state key', async () => {
    await prepared();
    tamper((get, put) => {
      put(`guest/${A}/record/nv/1`, get(`guest/${B}/record/nv/1`) ?? null);
    });
    await refuses(A, 'nv/1', /not authentic/);
    assert.equal((await loading(B)).length, 3);
    tamper((get, put) => {
      put(`guest/${B}/record/nv/1`, get(`guest/${B}/record/nv/2`) ?? null);
    });
    await refuses(B, 'nv/1', /not authentic/);
  });

  it('refuses a record put back from an older time, a removed one and an added one', async () => {
    await prepared();
    let old: Buffer | undefined;
    tamper((get) => {
      old = Buffer.from(get(`guest/${A}/record/clock`) ?? []);
    });
    await withStore((store) => store.guestRecords(A, key).commit(new Map([['clock', Buffer.from('later')]])));
    tamper((_, put) => {
      put(`guest/${A}/record/clock`, old ?? null);
    });
    await refuses(A, 'head', /older time/);
    tamper((_, put) => {
      put(`guest/${B}/record/clock`, null);
    });
    await refuses(B, 'head', /removed/);
    tamper((get, put) => {
      put(`guest/${B}/record/extra`, get(`guest/${B}/record/nv/1`) ?? null);
    });
    await refuses(B, 'extra', /not authentic/);
  });

  it('refuses a guest whose state is gone instead of starting afresh', async () => {
    await prepared();
    tamper((_, put) => {
      for (const record of ['head', 'record/nv/1', 'record/nv/2', 'record/clock']) put(`guest/${A}/${record}`, null);
    });
    await refuses(A, 'head', /missing/);
  });

  it('does not write over state that it cannot read', async () => {
    await prepared();
    await withStore(async (store) => {
      await assert.rejects(store.guestRecords(A, randomBytes(32)).commit(new Map([['clock', Buffer.from('x')]])), StoreError);
    });
    assert.equal((await loading(A)).length, 3);
  });

  it('removes everything of a guest', async () => {
    await prepared();
    await withStore((store) => store.removeGuest(A));
    tamper((get) => {
      for (const record of ['meta', 'key-blobs', 'head', 'record/clock']) assert.equal(get(`guest/${A}/${record}`), undefined);
    });
    assert.equal((await loading(B)).length, 3);
  });

  it('refuses a second opening, and opens again after the first is closed', async () => {
    const store = await openHostStore(directory);
    await assert.rejects(openHostStore(directory), /another tpmux daemon uses it/);
    await store.close();
    await (await openHostStore(directory)).close();
  });

  it('keeps host-level records', async () => {
    await withStore((store) => store.putHostRecords(new Map([['root', Buffer.from('blob')]])));
    await withStore(async (store) => {
      assert.equal(store.hostRecord('root')?.toString(), 'blob');
      await store.putHostRecords(new Map([['root', null]]));
      assert.equal(store.hostRecord('root'), undefined);
    });
  });

  it('refuses a newer format', async () => {
    await prepared();
    tamper((_, put) => {
      put('format', Buffer.from('2'));
    });
    await assert.rejects(openHostStore(directory), /it has format 2, this tpmux knows up to 1 \(use the newer tpmux/);
  });

  it('refuses a truncated database instead of dying on it', async () => {
    await prepared();
    await withStore((store) => store.guestRecords(A, key).commit(new Map([['big', randomBytes(60_000)]])));
    await truncate(join(directory, 'store.db'), 20_000);
    await assert.rejects(openHostStore(directory), StoreError);
  });

  it('refuses a file that is no database', async () => {
    await prepared();
    await writeFile(join(directory, 'store.db'), randomBytes(40_000));
    await assert.rejects(openHostStore(directory), StoreError);
  });

  it('refuses an empty file instead of starting afresh', async () => {
    await prepared();
    await truncate(join(directory, 'store.db'), 0);
    await assert.rejects(openHostStore(directory), /the file is not a database/);
    assert.equal((await stat(join(directory, 'store.db'))).size, 0, 'it is left as it is');
  });

  it('refuses a guest whose description is damaged, and no other', async () => {
    await prepared();
    tamper((get, put) => {
      const row = Buffer.from(get(`guest/${A}/meta`) ?? []);
      put(`guest/${A}/meta`, Buffer.concat([row.subarray(0, -1), Buffer.from(',"extra":1}')]));
    });
    await withStore((store) => {
      assert.deepEqual(
        store.guests().map(({ name }) => name),
        ['b'],
      );
      assert.match(store.damagedGuests()[0]?.message ?? '', /not those that were written last/);
      return Promise.resolve();
    });
    assert.equal((await loading(B)).length, 3);
  });

  it('refuses a record of a newer format, and one that is cut short', async () => {
    await prepared();
    const edit = (change: (value: Buffer) => Buffer): void => {
      tamper((get, put) => {
        put(`guest/${A}/record/nv/1`, change(Buffer.from(get(`guest/${A}/record/nv/1`) ?? [])));
      });
    };
    edit((value) => Buffer.concat([Buffer.of(2), value.subarray(1)]));
    await refuses(A, 'nv/1', /has format 2, this tpmux knows up to 1 \(use the newer tpmux/);
    edit((value) => Buffer.concat([Buffer.of(1), value.subarray(1)]));
    assert.equal((await loading(A)).length, 3);
    edit((value) => value.subarray(0, 20));
    await refuses(A, 'nv/1', /cut short/);
    assert.equal((await loading(B)).length, 3);
  });

  it('puts a guest back as it was', async () => {
    await prepared();
    await withStore(async (store) => {
      const [a] = store.guests();
      assert.ok(a);
      const stored = await store.storedGuest(a);
      const records = store.guestRecords(A, key);
      await records.commit(new Map([['later', Buffer.from('x')]]));
      await store.removeGuest(A);
      assert.equal(store.guests().length, 1);
      await store.restoreGuest(stored);
      assert.equal(store.guests().length, 2);
    });
    assert.deepEqual(
      (await loading(A)).map(([name]) => name),
      ['clock', 'nv/1', 'nv/2'],
    );
  });
});
