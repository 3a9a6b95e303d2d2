// Run by faults.test.ts with the shim: commits of several guests while one call after another fails.
import assert from 'node:assert/strict';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { GuestRecordStore } from '../../src/store/guest-record-store.js';
import type { HostStore } from '../../src/store/host-store.js';
import { openHostStore } from '../support/host-store.js';
import { FaultControl } from '../fault/shim.js';

const ENOSPC = 28;
const EIO = 5;
const GUESTS = ['a', 'b', 'c'].map((name, i) => ({ name, id: `55555555-5555-4555-8555-55555555555${i.toString()}` }));
const STATE_KEY = Buffer.alloc(32, 9);

/** One guest's records, and what was acknowledged. */
interface Party {
  readonly id: string;
  readonly records: GuestRecordStore;
  readonly model: Map<string, string>;
}

const fault = FaultControl.open(process.argv[3] ?? '');
const directory = join(process.argv[2] ?? '', 'store');
let counter = 0;
let rejections = 0;

async function contents(records: GuestRecordStore): Promise<[string, string][]> {
  return (await records.load('')).map(([key, value]) => [key, value.toString('latin1').replace(/\.+$/, '')]);
}

/** Commits until it succeeds; after each rejection nothing may have changed. */
async function commitSurely(party: Party): Promise<void> {
  const number = counter++;
  const key = `nv/${(number % 5).toString()}`;
  const value = number.toString();
  const bytes = Buffer.from(value.padEnd(3000, '.'));
  const gone = number % 2 === 0 ? 'x' : null;
  const changes = new Map([
    [key, bytes],
    ['last', bytes],
    ['gone', gone && Buffer.from(gone)],
  ]);
  for (;;) {
    try {
      await party.records.commit(changes);
      break;
    } catch {
      rejections++;
      assert.deepEqual(await contents(party.records), [...party.model].sort(), 'a commit that failed has changed something');
      fault.disarm();
    }
  }
  party.model.set(key, value).set('last', value);
  if (gone === null) party.model.delete('gone');
  else party.model.set('gone', gone);
}

async function matches(store: HostStore, parties: readonly Party[]): Promise<void> {
  for (const { id, model } of parties) {
    assert.deepEqual(await contents(store.guestRecords(id, STATE_KEY)), [...model].sort(), 'what was acknowledged is not there');
  }
}

/** What a daemon finds that starts after this one was killed now. */
async function checkAsAfterKill(parties: readonly Party[], hostValue: string): Promise<void> {
  const copy = `${process.argv[2] ?? ''}-copy`;
  await cp(directory, copy, { recursive: true });
  const store = await openHostStore(copy);
  await matches(store, parties);
  assert.equal(store.hostRecord('counter')?.toString(), hostValue);
  await store.close();
  await rm(copy, { recursive: true });
}

async function round(store: HostStore, parties: readonly Party[]): Promise<void> {
  const hostValue = (counter++).toString();
  const writeHost = (): Promise<void> => store.putHostRecords(new Map([['counter', Buffer.from(hostValue)]]));
  const host = writeHost().catch(async () => {
    rejections++;
    fault.disarm();
    await writeHost();
  });
  await Promise.all([host, ...parties.map((party) => commitSurely(party))]);
  fault.disarm();
  await checkAsAfterKill(parties, hostValue);
}

let store = await openHostStore(directory);
const models = GUESTS.map(() => new Map<string, string>());
for (const { id, name } of GUESTS) {
  const meta = { id, name, created: new Date().toISOString(), policy: null, listen: {}, autostart: false };
  await store.addGuest(meta, Buffer.from('key blobs'));
}
const partiesOf = (opened: HostStore): Party[] =>
  GUESTS.map(({ id }, i) => ({ id, records: opened.guestRecords(id, STATE_KEY), model: models[i] ?? new Map<string, string>() }));
let parties = partiesOf(store);
await round(store, parties);
let faults = 0;
for (const error of [ENOSPC, EIO]) {
  for (const sticky of [false, true]) {
    for (let nth = 1; ; nth++) {
      fault.arm(nth, error, sticky);
      await round(store, parties);
      if (fault.failed === 0) break;
      faults++;
    }
  }
  // Closing moves everything from the log into the database, and deletes the log.
  for (let nth = 1; ; nth++) {
    fault.arm(nth, error);
    await store.close();
    fault.disarm();
    const { failed } = fault;
    store = await openHostStore(directory);
    parties = partiesOf(store);
    await matches(store, parties);
    await round(store, parties);
    if (failed === 0) break;
    faults++;
  }
}
await store.close();
console.log(JSON.stringify({ faults, rejections }));
