// Property providers in a whole vTPM: what a guest sees, and what outlives suspend, crash and restart.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { PCR_Event, PCR_Extend, PCR_Read, PCR_Reset, Shutdown, Startup } from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_SU } from '../../src/tpm/constants/index.js';
import { hash } from '../../src/tpm/hash.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import type { Catalog } from '../../src/statements/catalog.js';
import type { GuestProviders } from '../../src/properties/provider-set/guest-providers.js';
import { exportLog, foldLog } from '../../src/properties/measurement-log/export.js';
import { PropertySet } from '../../src/statements/property-set.js';
import { fixedValue } from '../../src/statements/fixed-value.js';
import { VolatileJournal } from '../../src/store/volatile-journal.js';
import { catalogOf, digestOf, providersOf, setOf, statement } from '../properties/fixture.js';
import { codeOf, frame, run } from '../support/frames.js';
import { openTestTpm, type TestTpm, type TestTpmOptions } from '../support/vtpm.js';

const { SHA256 } = TPM_ALG;
const zero = Buffer.alloc(32);
const presented = (index: number): string => (index <= 7 ? 'certified' : 'digest');

describe('property providers in a vTPM', () => {
  let catalog: Catalog;
  before(async () => {
    catalog = await catalogOf([statement(['kernel a', 'kernel b'], { good: true })]);
  });
  const certified = hash(SHA256, zero, PropertySet.of({ good: true }).digest(SHA256));
  const extend = (text: string, pcrHandle = 4): Buffer =>
    frame(PCR_Extend, { pcrHandle, digests: [{ hashAlg: SHA256, digest: digestOf(SHA256, text) }] });

  async function read({ execute }: TestTpm, pcr: number): Promise<Buffer> {
    const pcrSelect = Buffer.alloc(3);
    pcrSelect[pcr >> 3] = 1 << (pcr & 7);
    const { pcrValues } = await run(execute, PCR_Read, { pcrSelectionIn: [{ hash: SHA256, pcrSelect }] });
    return Buffer.from(pcrValues[0] ?? assert.fail());
  }

  async function foldsTo(guest: TestTpm, properties: GuestProviders, pcr: number): Promise<void> {
    const log = exportLog(setOf(properties).log ?? assert.fail());
    assert.deepEqual(await read(guest, pcr), foldLog(log, setOf(properties).presented(pcr), SHA256, pcr));
  }

  it('a guest sees the presented vector, and an extend costs nothing on the disk', async () => {
    const properties = providersOf(catalog, { presented });
    const guest = await openTestTpm({ properties });
    const { commits } = guest.records;
    assert.equal(codeOf(await guest.execute(extend('kernel a'))), 0);
    assert.equal(codeOf(await guest.execute(extend('kernel a', 10))), 0);
    assert.deepEqual(await read(guest, 4), certified);
    assert.deepEqual(await read(guest, 10), hash(SHA256, zero, digestOf(SHA256, 'kernel a')));
    await run(guest.execute, PCR_Event, { pcrHandle: 10, eventData: Buffer.from('data') });
    assert.equal(guest.records.commits, commits);
    assert.equal(setOf(properties).log?.histories()[10]?.entries.at(-1)?.eventData?.toString(), 'data');
    for (const pcr of [4, 10]) await foldsTo(guest, properties, pcr);
  });

  it('suspend and resume keep vectors and the log', async () => {
    const properties = providersOf(catalog, { presented });
    const guest = await openTestTpm({ properties });
    for (const text of ['kernel a', 'other']) assert.equal(codeOf(await guest.execute(extend(text))), 0);
    assert.equal(codeOf(await guest.execute(extend('x', 17))), TPM_RC.LOCALITY);
    const before = await read(guest, 4);
    assert.equal(codeOf(await guest.execute(frame(Shutdown, { shutdownType: TPM_SU.STATE }))), 0);
    await guest.powerCycle();
    assert.equal(codeOf(await guest.execute(frame(Startup, { startupType: TPM_SU.STATE }))), 0);
    assert.deepEqual(await read(guest, 4), before);
    assert.equal(codeOf(await guest.execute(extend('kernel b'))), 0);
    for (const pcr of [0, 4, 10, 17]) await foldsTo(guest, properties, pcr);
    assert.equal(exportLog(setOf(properties).log ?? assert.fail()).complete, true);
  });

  it('after a crash of the daemon a guest goes on where it was', async () => {
    const properties = providersOf(catalog, { presented });
    const guest = await openTestTpm({ properties });
    for (const text of ['kernel a', 'other']) assert.equal(codeOf(await guest.execute(extend(text))), 0);
    const before = await read(guest, 4);
    await guest.tpm.storeVolatile();
    const again = providersOf(catalog, { presented });
    const reopened = await openTestTpm({ records: guest.records, keys: guest.keys, properties: again, startup: false });
    await reopened.tpm.init(true);
    assert.deepEqual(await read(reopened, 4), before);
    assert.equal(codeOf(await reopened.execute(extend('kernel b'))), 0);
    for (const pcr of [0, 4, 10, 17]) await foldsTo(reopened, again, pcr);
  });

  it('killed at any time, the vector of every provider is the fold over the exported log', async () => {
    const shown = (index: number): string => (['certified', 'platform', 'log', 'digest'] as const)[index % 4] ?? 'digest';
    const pcr = fc.constantFrom(0, 4, 5, 6, 7, 16, 23);
    const step = fc.oneof(
      {
        weight: 8,
        arbitrary: fc.tuple(pcr, fc.constantFrom('kernel a', 'kernel b', 'x', 'y')).map(([index, text]) => extend(text, index)),
      },
      { weight: 2, arbitrary: pcr.map((pcrHandle) => frame(PCR_Event, { pcrHandle, eventData: Buffer.alloc(500, 'data') })) },
      { weight: 1, arbitrary: fc.constantFrom(16, 23).map((pcrHandle) => frame(PCR_Reset, { pcrHandle })) },
      { weight: 2, arbitrary: fc.constant('kill' as const) },
    );
    const directory = await mkdtemp(join(tmpdir(), 'tpmux-providers-'));
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.constantFrom(2_000, 4 * 1024 * 1024), async (steps, logSize) => {
          const place = { path: join(directory, randomUUID()), guestId: 'guest', bootId: Buffer.alloc(16) };
          const key = Buffer.alloc(32, 1);
          const options = { presented: shown, logSize };
          let properties = providersOf(catalog, options);
          let guest = await openTestTpm({ properties, journal: new VolatileJournal(place, key) });
          for (const one of [...steps, 'kill' as const]) {
            if (one !== 'kill') {
              assert.equal(codeOf(await guest.execute(one)), 0);
              continue;
            }
            const before = exportLog(setOf(properties).log ?? assert.fail());
            properties = providersOf(catalog, options);
            const { records, keys } = guest;
            guest = await openTestTpm({ records, keys, properties, journal: new VolatileJournal(place, key), startup: false });
            assert.ok(await guest.tpm.resume());
            const log = exportLog(setOf(properties).log ?? assert.fail());
            assert.deepEqual(log, before);
            for (let index = 0; index < 24; index++) {
              assert.deepEqual(await read(guest, index), foldLog(log, shown(index), SHA256, index), `${shown(index)} ${index.toString()}`);
            }
          }
          assert.deepEqual([...properties.failures], []);
        }),
        { numRuns: 40 },
      );
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('a log that drops its oldest entries goes on after a crash, and after a command that was undone', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tpmux-providers-'));
    try {
      const place = { path: join(directory, 'guest'), guestId: 'guest', bootId: Buffer.alloc(16) };
      const open = (properties: GuestProviders, others: TestTpmOptions = {}): Promise<TestTpm> =>
        openTestTpm({ properties, journal: new VolatileJournal(place, Buffer.alloc(32, 1)), ...others });
      const options = { presented, logSize: 200_000 };
      const first = providersOf(catalog, options);
      const guest = await open(first);
      const events = async ({ execute }: TestTpm, times: number): Promise<void> => {
        const event = frame(PCR_Event, { pcrHandle: 4, eventData: Buffer.alloc(1024, 'data') });
        for (let i = 0; i < times; i++) assert.equal(codeOf(await execute(event)), 0);
      };
      await events(guest, 300);
      guest.records.failure = new Error('the disk is full');
      assert.equal(codeOf(await guest.execute(frame(Shutdown, { shutdownType: TPM_SU.CLEAR }))), TPM_RC.RETRY);
      guest.records.failure = undefined;
      await foldsTo(guest, first, 4);
      await events(guest, 300);
      assert.ok(setOf(first).log?.truncated);
      assert.ok((await stat(place.path)).size < 2_000_000);
      const second = providersOf(catalog, options);
      const { records, keys } = guest;
      const resumed = await open(second, { records, keys, startup: false });
      assert.ok(await resumed.tpm.resume());
      assert.deepEqual(exportLog(setOf(second).log ?? assert.fail()), exportLog(setOf(first).log ?? assert.fail()));
      await events(resumed, 10);
      for (const pcr of [0, 4]) await foldsTo(resumed, second, pcr);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('other providers and vectors are those of the next reset, whatever else happens before', async () => {
    const properties = providersOf(catalog, { presented });
    const guest = await openTestTpm({ properties });
    assert.equal(codeOf(await guest.execute(extend('kernel a'))), 0);
    const before = await read(guest, 4);
    properties.choose({ names: ['digest', 'log'] });
    assert.equal(properties.pending, true);
    assert.deepEqual(await read(guest, 4), before);
    assert.equal(codeOf(await guest.execute(frame(Shutdown, { shutdownType: TPM_SU.STATE }))), 0);
    await guest.powerCycle();
    assert.equal(codeOf(await guest.execute(frame(Startup, { startupType: TPM_SU.STATE }))), 0);
    assert.deepEqual(await read(guest, 4), before);
    assert.equal(codeOf(await guest.execute(extend('kernel b'))), 0);
    for (const pcr of [0, 4, 10, 17]) await foldsTo(guest, properties, pcr);
    assert.equal(properties.pending, true);
    await guest.powerCycle();
    assert.equal(codeOf(await guest.execute(frame(Startup, { startupType: TPM_SU.CLEAR }))), 0);
    assert.deepEqual([setOf(properties).names, properties.pending], [['digest', 'log'], false]);
    assert.equal(codeOf(await guest.execute(extend('kernel a'))), 0);
    assert.deepEqual(await read(guest, 4), hash(SHA256, zero, digestOf(SHA256, 'kernel a')));
  });

  it('a guest that goes on elsewhere presents what it did: no vector lacks what was extended', async () => {
    const narrow = { names: ['digest', 'log'], presented: (): string => 'digest' };
    const properties = providersOf(catalog, narrow);
    const guest = await openTestTpm({ properties });
    assert.equal(codeOf(await guest.execute(extend('kernel a'))), 0);
    const before = await read(guest, 4);
    await guest.tpm.storeVolatile();
    const again = providersOf(catalog, { presented, attested: () => 'certified' });
    const reopened = await openTestTpm({ records: guest.records, keys: guest.keys, properties: again, startup: false });
    await reopened.tpm.init(true);
    assert.deepEqual(await read(reopened, 4), before);
    assert.deepEqual([setOf(again).names, setOf(again).presented(4), setOf(again).attested(4)], [['digest', 'log'], 'digest', 'digest']);
    assert.equal(codeOf(await reopened.execute(extend('kernel b'))), 0);
    await foldsTo(reopened, again, 4);
    await reopened.powerCycle();
    assert.equal(codeOf(await reopened.execute(frame(Startup, { startupType: TPM_SU.CLEAR }))), 0);
    assert.deepEqual([setOf(again).presented(4), setOf(again).attested(4)], ['certified', 'certified']);
    assert.equal(codeOf(await reopened.execute(extend('kernel b'))), 0);
    assert.deepEqual(await read(reopened, 4), certified);
  });

  it('a refused measurement is answered TPM_RC_POLICY_FAIL, and shows in the PCR', async () => {
    const properties = providersOf(catalog, { presented, certified: { unknown: 'refuse' } });
    const guest = await openTestTpm({ properties });
    assert.equal(codeOf(await guest.execute(extend('kernel c'))), TPM_RC.POLICY_FAIL);
    assert.deepEqual(await read(guest, 4), hash(SHA256, zero, fixedValue(SHA256, 'refused')));
    assert.equal(codeOf(await guest.execute(extend('kernel a', 5))), 0);
    assert.deepEqual(guest.failures, []);
  });
});
