// Whatever is done to the rows of a store behind its back is found when it is opened.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { ClearRows, guestGroup, HEAD_KEY } from '../../src/store/clear-rows.js';
import type { Change } from '../../src/store/database.js';
import { LockedStore } from '../../src/store/locked-store.js';
import { openHostStore, STORE_SECRET, storedRows } from '../support/host-store.js';

type Rows = Map<string, Buffer>;

const ids = [randomUUID(), randomUUID()] as const;
const guestRow = (id: string) => ['meta', 'key-blobs', 'recovery', 'unused'].map((rest) => `guest/${id}/${rest}`);
const keys = [...ids.flatMap(guestRow), 'host/rollback-lease', 'host/audit-head', 'host/revocations', 'host/hardware', 'host/host-secret'];
const key = fc.constantFrom(...keys);
const value = fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes));
const change: fc.Arbitrary<Change> = fc.tuple(key, fc.oneof({ weight: 3, arbitrary: value }, { weight: 1, arbitrary: fc.constant(null) }));
/** Transactions after one another. */
const history = fc.array(fc.array(change, { minLength: 1, maxLength: 4 }), { minLength: 2, maxLength: 8 });

function apply(rows: Rows, changes: readonly Change[]): void {
  for (const [name, bytes] of changes) {
    if (bytes === null) rows.delete(name);
    else rows.set(name, Buffer.from(bytes));
  }
}

/** What is stored after each transaction. */
function stored(transactions: readonly (readonly Change[])[]): Rows[] {
  const format: Change = ['format', Buffer.from('1')];
  const rows: Rows = new Map();
  const clear = new ClearRows(rows, STORE_SECRET);
  return [[format], ...transactions].map((changes) => {
    const prepared = clear.prepare(changes);
    apply(rows, prepared.changes);
    prepared.apply();
    return new Map(rows);
  });
}

const isSound = (rows: Rows): boolean => {
  const { mismatch, foreign } = new ClearRows(rows, STORE_SECRET);
  return mismatch === undefined && foreign.size === 0;
};

const equal = (one: Rows, other: Rows): boolean =>
  one.size === other.size && [...one].every(([name, row]) => other.get(name)?.equals(row) === true);

describe('rows of a store in clear', () => {
  it('are good as they were written, and give the values', () => {
    fc.assert(
      fc.property(history, (transactions) => {
        const wanted: Rows = new Map([['format', Buffer.from('1')]]);
        const after = stored(transactions);
        transactions.forEach((changes, at) => {
          apply(wanted, changes);
          const rows = new ClearRows(after[at + 1] ?? new Map(), STORE_SECRET);
          assert.deepEqual([rows.mismatch, [...rows.foreign]], [undefined, []]);
          assert.deepEqual(new Map([...rows.keys()].map((name) => [name, rows.get(name)])), wanted);
        });
      }),
    );
  });

  it('are not, if any row was put back as it was at any earlier time, removed, added or exchanged', () => {
    const forgery = fc.record({ names: fc.array(fc.constantFrom(...keys, HEAD_KEY), { minLength: 1, maxLength: 4 }), from: fc.nat() });
    fc.assert(
      fc.property(history, forgery, fc.boolean(), (transactions, { names, from }, exchange) => {
        const all = stored(transactions);
        const last: Rows = all.at(-1) ?? assert.fail();
        const source = all[from % all.length] ?? assert.fail();
        const forged = new Map(last);
        names.forEach((name, at) => {
          const row = exchange ? last.get(names[(at + 1) % names.length] ?? name) : source.get(name);
          if (row === undefined) forged.delete(name);
          else forged.set(name, row);
        });
        fc.pre(!equal(forged, last));
        // A whole older state is good in itself: the counter of the chip tells it.
        fc.pre(!all.some((one) => equal(one, forged)));
        // So it does for a store that has nothing left.
        fc.pre(!new ClearRows(forged, STORE_SECRET).isNew);
        assert.equal(isSound(forged), false);
      }),
      { numRuns: 2000 },
    );
  });

  it('are not, if any byte of any row was changed; whose row it was is told, and none of its rows is given', () => {
    fc.assert(
      fc.property(history, fc.nat(), fc.nat(), fc.integer({ min: 1, max: 255 }), (transactions, which, where, mask) => {
        const forged = stored(transactions).at(-1) ?? assert.fail();
        const names = [...forged].filter(([, row]) => row.length > 0).map(([name]) => name);
        const name = names[which % names.length] ?? assert.fail();
        const row = Buffer.from(forged.get(name) ?? assert.fail());
        const at = where % row.length;
        row[at] = (row[at] ?? 0) ^ mask;
        forged.set(name, row);
        const rows = new ClearRows(forged, STORE_SECRET);
        if (name === HEAD_KEY) {
          assert.notEqual(rows.mismatch, undefined);
          return;
        }
        const group = ids.map(guestGroup).find((each) => name.startsWith(`${each}/`)) ?? name;
        assert.deepEqual([rows.mismatch, [...rows.foreign]], [undefined, [group]]);
        for (const each of rows.keys()) assert.equal(rows.get(each) === undefined, each === group || each.startsWith(`${group}/`));
      }),
      { numRuns: 2000 },
    );
  });

  it('do not become good again by a write that leaves some of them as they are', () => {
    fc.assert(
      fc.property(history, fc.constantFrom(...ids), fc.array(change, { minLength: 1, maxLength: 3 }), (transactions, id, changes) => {
        const good = stored(transactions).at(-1) ?? assert.fail();
        const ofGuest = (rows: Rows): Rows => new Map([...rows].filter(([each]) => each.startsWith(`guest/${id}/`)));
        const forged = new Map(good).set(`guest/${id}/meta`, Buffer.from('forged'));
        const rows = new ClearRows(forged, STORE_SECRET);
        fc.pre(rows.foreign.has(guestGroup(id)));
        const replaced = [...ofGuest(forged).keys()].every((each) => changes.some(([changed]) => changed === each));
        const { changes: written, apply: applied } = rows.prepare(changes);
        apply(forged, written);
        applied();
        assert.equal(rows.foreign.has(guestGroup(id)), !replaced);
        const sound = !new ClearRows(forged, STORE_SECRET).foreign.has(guestGroup(id));
        assert.equal(sound, replaced || equal(ofGuest(forged), ofGuest(good)));
      }),
    );
  });

  it('are not those of another host', () => {
    const [, rows] = stored([[['host/x', Buffer.from('1')]]]);
    assert.notEqual(new ClearRows(rows ?? new Map(), Buffer.alloc(32, 1)).mismatch, undefined);
  });

  it('follow what the store does, whoever writes', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tpmux-rows-'));
    try {
      const store = await openHostStore(directory);
      const [id] = ids;
      const meta = { id, name: 'web1', created: new Date().toISOString(), policy: null, listen: {}, autostart: false };
      await store.addGuest(meta, Buffer.from('blobs'));
      const records = store.guestRecords(id, Buffer.alloc(32, 7));
      await Promise.all([
        records.commit(new Map([['nv/1', Buffer.from('1')]])),
        store.updateGuest({ ...meta, autostart: true }),
        store.putHostRecords(new Map([['audit-head', Buffer.from('{}')]])),
        records.commit(new Map([['nv/2', Buffer.from('2')]])),
        store.updateKeyBlobs(id, Buffer.from('others')),
      ]);
      await store.close();
      const rows = await storedRows(directory);
      assert.equal(rows.has(`guest/${id}/unused`), false);
      assert.equal(isSound(rows), true);
      await (await openHostStore(directory)).close();
      const locked = await LockedStore.open(directory);
      await assert.rejects(locked.unlock(Buffer.alloc(32, 1)), /belongs to another host/);
      await locked.close();
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
