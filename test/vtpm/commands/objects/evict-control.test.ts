import assert from 'node:assert/strict';
import { EvictControl, FlushContext, HashSequenceStart, LoadExternal, ReadPublic, Sign } from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_ST, TPMA_OBJECT } from '../../../../src/tpm/constants/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { none, password, run } from '../../../support/frames.js';
import { createPrimary, flush } from '../../../support/primary-keys.js';
import { eccTemplate } from '../../../support/templates.js';
import { openTestTpm } from '../../../support/vtpm.js';

describe('EvictControl', () => {
  let pair: Differential;
  before(async () => {
    pair = await startDifferential();
  });
  after(() => pair.stop());
  const persistentHandle = 0x81000010;
  const evict = (auth: number, objectHandle: number, handle = persistentHandle): Promise<number> =>
    pair.code(EvictControl, { auth, objectHandle, persistentHandle: handle });
  const primary = async (hierarchy: number, attributes = 0): Promise<number> => {
    const template = eccTemplate();
    for (const execute of [pair.ours.execute, pair.theirs.execute]) {
      await createPrimary(execute, { ...template, objectAttributes: template.objectAttributes | attributes }, { hierarchy });
    }
    return 0x80000000;
  };
  const drop = (flushHandle: number): Promise<number> => pair.code(FlushContext, { flushHandle });

  it('makes persistent and evicts as swtpm', async () => {
    const handle = await primary(TPM_RH.OWNER);
    assert.equal(await evict(TPM_RH.PLATFORM, handle), 0x285);
    assert.equal(await evict(TPM_RH.OWNER, handle, 0x81800000), 0x1cd);
    assert.equal(await evict(TPM_RH.OWNER, handle), 0);
    assert.equal(await evict(TPM_RH.OWNER, handle), 0x14c);
    assert.equal(await evict(TPM_RH.OWNER, persistentHandle, 0x81000011), 0x28b);
    await drop(handle);
    assert.equal(await evict(TPM_RH.OWNER, handle), 0x911);
    assert.equal(await evict(TPM_RH.PLATFORM, persistentHandle), 0);
    assert.equal(await evict(TPM_RH.OWNER, persistentHandle), 0x28b);
  });

  it('keeps hierarchies apart', async () => {
    const platformHandle = 0x81800010;
    const handle = await primary(TPM_RH.PLATFORM);
    assert.equal(await evict(TPM_RH.OWNER, handle), 0x285);
    assert.equal(await evict(TPM_RH.PLATFORM, handle), 0x1cd);
    assert.equal(await evict(TPM_RH.PLATFORM, handle, platformHandle), 0);
    await drop(handle);
    assert.equal(await evict(TPM_RH.OWNER, platformHandle, platformHandle), 0x285);
    assert.equal(await evict(TPM_RH.PLATFORM, platformHandle, platformHandle), 0);
    await primary(TPM_RH.ENDORSEMENT);
    assert.equal(await evict(TPM_RH.OWNER, handle), 0);
    await drop(handle);
    assert.equal(await evict(TPM_RH.OWNER, persistentHandle), 0);
  });

  it('refuses what is temporary', async () => {
    const handle = await primary(TPM_RH.NULL);
    assert.equal(await evict(TPM_RH.OWNER, handle), 0x282);
    await drop(handle);
    await primary(TPM_RH.OWNER, TPMA_OBJECT.stClear);
    assert.equal(await evict(TPM_RH.OWNER, handle), 0x282);
    await drop(handle);
    const { publicArea } = await createPrimary(pair.ours.execute, eccTemplate());
    await flush(pair.ours.execute, handle);
    await pair.run(LoadExternal, { inPrivate: null, inPublic: publicArea, hierarchy: TPM_RH.OWNER });
    assert.equal(await evict(TPM_RH.OWNER, handle), 0x282);
    await drop(handle);
    await pair.run(HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 });
    assert.equal(await evict(TPM_RH.OWNER, handle), 0x282);
  });

  it('is durable', async () => {
    const test = await openTestTpm();
    const key = await createPrimary(test.execute, eccTemplate(), { auth: 'key' });
    await run(test.execute, EvictControl, { auth: TPM_RH.OWNER, objectHandle: key.handle, persistentHandle });
    const again = await test.reopen();
    const { outPublic } = await run(again.execute, ReadPublic, { objectHandle: persistentHandle });
    assert.deepEqual(outPublic, key.publicArea);
    const validation = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none };
    const inScheme = { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } };
    await run(again.execute, Sign, { keyHandle: persistentHandle, digest: Buffer.alloc(32), inScheme, validation }, [password('key')]);
  });
});
