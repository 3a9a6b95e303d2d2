// Run by kill.test.ts: commits numbers for ever and prints each one when it is durable.
import { writeSync } from 'node:fs';
import { openHostStore } from '../support/host-store.js';

export const GUEST = '33333333-3333-4333-8333-333333333333';
export const STATE_KEY = Buffer.alloc(32, 7);

const directory = process.argv[2];
if (directory !== undefined && process.argv[1]?.endsWith('commit-loop.ts') === true) {
  const store = await openHostStore(directory);
  if (store.guests().length === 0) {
    const created = new Date().toISOString();
    await store.addGuest({ id: GUEST, name: 'g', created, policy: null, listen: {}, autostart: true }, Buffer.from('key blobs'));
  }
  const records = store.guestRecords(GUEST, STATE_KEY);
  let next = Number((await records.load('counter'))[0]?.[1].toString() ?? '-1') + 1;
  for (;;) {
    const value = Buffer.from(next.toString());
    await records.commit(
      new Map([
        ['counter', value],
        ['copy', value],
      ]),
    );
    writeSync(1, `${next.toString()}\n`);
    next += 1;
  }
}
