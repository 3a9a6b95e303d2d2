// Property providers in a whole vTPM: what a guest sees, and what outlives suspend, crash and restart.
import assert from 'node:assert/strict';
import { PCR_Event, PCR_Extend, PCR_Read, Shutdown, Startup } from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_SU } from '../../src/tpm/constants/index.js';
import { hash } from '../../src/tpm/hash.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import type { Catalog } from '../../src/properties/catalog.js';
import type { GuestProviders } from '../../src/properties/guest-providers.js';
import { exportLog, foldLog } from '../../src/properties/log-export.js';
import { PropertySet } from '../../src/properties/property-set.js';
import { fixedValue } from '../../src/properties/provider.js';
import { catalogOf, digestOf, providersOf, statement } from '../properties/fixture.js';
import { codeOf, frame, run } from '../support/frames.js';
import { openTestTpm, type TestTpm } from '../support/vtpm.js';

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
    const log = exportLog(properties.log?.log ?? assert.fail());
    assert.deepEqual(await read(guest, pcr), foldLog(log, presented(pcr), SHA256, pcr));
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
    assert.equal(properties.log?.log.histories()[10]?.entries.at(-1)?.eventData?.toString(), 'data');
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
    assert.equal(exportLog(properties.log?.log ?? assert.fail()).complete, true);
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

  it('a refused measurement is answered TPM_RC_POLICY_FAIL, and shows in the PCR', async () => {
    const properties = providersOf(catalog, { presented, certified: { unknown: 'refuse' } });
    const guest = await openTestTpm({ properties });
    assert.equal(codeOf(await guest.execute(extend('kernel c'))), TPM_RC.POLICY_FAIL);
    assert.deepEqual(await read(guest, 4), hash(SHA256, zero, fixedValue(SHA256, 'refused')));
    assert.equal(codeOf(await guest.execute(extend('kernel a', 5))), 0);
    assert.deepEqual(guest.failures, []);
  });
});
