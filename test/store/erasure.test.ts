// TPM2_Clear, TPM2_ChangeEPS and the removal of a guest leave nothing of what was there: not in the live files, and not for who kept older bytes.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as Commands from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPMA_NV } from '../../src/tpm/constants/index.js';
import type { GuestMeta } from '../../src/store/guest-meta.js';
import type { HostStore } from '../../src/store/host-store.js';
import { deriveJournalKey, VolatileJournal } from '../../src/store/volatile-journal.js';
import { none, run } from '../support/frames.js';
import { openHostStore } from '../support/host-store.js';
import { openTestTpm, type TestTpm } from '../support/vtpm.js';

const ID = '11111111-1111-4111-8111-111111111111';
const OTHER = '22222222-2222-4222-8222-222222222222';
const META: GuestMeta = { id: ID, name: 'a', created: '2026-01-02T03:04:05.678Z', policy: null, listen: {}, autostart: false };
const INDEX = 0x01500000;
const PLATFORM_INDEX = 0x01500001;

describe('what a guest erases', () => {
  let directory: string;
  let store: HostStore;
  let guest: TestTpm;
  const stateKey = randomBytes(32);
  const runDirectory = (): string => join(directory, 'run');

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tpmux-erasure-'));
    store = await openHostStore(join(directory, 'store'));
    await store.addGuest(META, Buffer.from('keys'));
    await store.addGuest({ ...META, id: OTHER, name: 'b' }, Buffer.from('keys'));
    const journal = new VolatileJournal(
      { path: join(runDirectory(), 'a.journal'), guestId: ID, bootId: Buffer.alloc(16) },
      deriveJournalKey(stateKey),
    );
    guest = await openTestTpm({ store: store.guestRecords(ID, stateKey), journal });
    for (const [index, attributes] of [
      [INDEX, TPMA_NV.AUTHREAD | TPMA_NV.OWNERWRITE],
      [PLATFORM_INDEX, TPMA_NV.AUTHREAD | TPMA_NV.PPWRITE | TPMA_NV.PLATFORMCREATE],
    ] as const) {
      const authHandle = index === INDEX ? TPM_RH.OWNER : TPM_RH.PLATFORM;
      const publicInfo = { nvIndex: index, nameAlg: TPM_ALG.SHA256, attributes: attributes >>> 0, authPolicy: none, dataSize: 8 } as const;
      await run(guest.execute, Commands.NV_DefineSpace, { authHandle, auth: none, publicInfo });
      await run(guest.execute, Commands.NV_Write, { authHandle, nvIndex: index, data: Buffer.from('a secret'), offset: 0 });
    }
    await run(guest.execute, Commands.HierarchyChangeAuth, { authHandle: TPM_RH.OWNER, newAuth: Buffer.from('owner') });
  });
  afterEach(async () => {
    await store.close();
    await rm(directory, { recursive: true });
  });

  /** All bytes of the guest's state that are on the disk, in files that are in use. */
  const disk = async (): Promise<Buffer> => {
    const files = [];
    for (const folder of [join(directory, 'store'), runDirectory()]) {
      for (const name of await readdir(folder)) files.push(await readFile(join(folder, name)));
    }
    return Buffer.concat(files);
  };
  /** The sealed forms of all records, head included. */
  const sealed = async (): Promise<readonly (readonly [rest: string, value: Buffer])[]> => (await store.storedGuest(META)).sealed;
  /** Of these sealed records nothing is left. */
  const isGone = async (old: readonly (readonly [rest: string, value: Buffer])[]): Promise<void> => {
    const bytes = await disk();
    for (const [rest, value] of old) assert.ok(!bytes.includes(value.subarray(9, 25)), `${rest} is still on the disk`);
  };

  for (const [name, erase] of [
    ['TPM2_Clear', () => run(guest.execute, Commands.Clear, { authHandle: TPM_RH.PLATFORM })],
    ['TPM2_ChangeEPS', () => run(guest.execute, Commands.ChangeEPS, { authHandle: TPM_RH.PLATFORM })],
    ['TPM2_ChangePPS', () => run(guest.execute, Commands.ChangePPS, { authHandle: TPM_RH.PLATFORM })],
  ] as const) {
    it(`${name} leaves no older record in database, write-ahead log and journal, and none that could be opened`, async () => {
      const before = await sealed();
      assert.ok(before.length > 5);
      const there = await disk();
      for (const [rest, value] of before) assert.ok(there.includes(value.subarray(9, 25)), rest);
      await erase();
      await isGone(before);
      // Older bytes beside the newest state: put back, none is a record.
      const now = await sealed();
      const record = 'record/hierarchies';
      const put = (all: readonly (readonly [string, Buffer])[]): Promise<void> =>
        store.restoreGuest({ meta: { ...META, id: OTHER, name: 'b' }, keyBlobs: Buffer.from('keys'), recovery: null, sealed: all });
      await put(now.map(([rest, value]) => [rest, rest === record ? (before.find(([old]) => old === rest)?.[1] ?? value) : value]));
      await assert.rejects(store.guestRecords(OTHER, stateKey).load(''));
      const { data } = await run(guest.execute, Commands.NV_Read, {
        authHandle: PLATFORM_INDEX,
        nvIndex: PLATFORM_INDEX,
        size: 8,
        offset: 0,
      });
      assert.equal(data.toString(), 'a secret', 'what is not cleared is there');
    });
  }

  it('is what another process finds', async () => {
    await run(guest.execute, Commands.Clear, { authHandle: TPM_RH.PLATFORM });
    await store.close();
    store = await openHostStore(join(directory, 'store'));
    const keys = (await store.guestRecords(ID, stateKey).load('nv/')).map(([key]) => key);
    assert.deepEqual(keys, ['nv/01500001']);
  });

  it('goes with the guest when it is removed', async () => {
    const before = await sealed();
    await store.removeGuest(ID);
    const bytes = await readFile(join(directory, 'store', 'store.db'));
    for (const [rest, value] of before) assert.ok(!bytes.includes(value.subarray(9, 25)), rest);
  });
});
