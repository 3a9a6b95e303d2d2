// What a guest sees while its changes cannot be made durable: TPM_RC_RETRY, and nothing of the command; then everything goes on.
import assert from 'node:assert/strict';
import { TPM_ALG, TPM_CAP, TPM_RH, TPM_SU, TPMA_NV } from '../../../src/tpm/constants/index.js';
import * as Commands from '../../../src/tpm/commands/index.js';
import { StoreError } from '../../../src/store/store-error.js';
import { hash } from '../../../src/tpm/hash.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { codeOf, frame, none, password, run } from '../../support/frames.js';
import { openTestTpm, type TestTpm } from '../../support/vtpm.js';

const INDEX = 0x01500000;
const publicInfo = {
  nvIndex: INDEX,
  nameAlg: TPM_ALG.SHA256,
  attributes: TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | (1 << 4),
  authPolicy: none,
  dataSize: 8,
} as const;
const DEFINE = { authHandle: TPM_RH.OWNER, auth: none, publicInfo };
const ON_INDEX = { authHandle: TPM_RH.OWNER, nvIndex: INDEX };

describe('a vTPM whose disk fails', () => {
  let guest: TestTpm;
  beforeEach(async () => {
    guest = await openTestTpm();
  });

  const count = async (): Promise<bigint> =>
    (await run(guest.execute, Commands.NV_Read, { ...ON_INDEX, size: 8, offset: 0 })).data.readBigUInt64BE();
  const whileFailing = async (use: () => Promise<unknown>): Promise<void> => {
    guest.records.failure = new Error('the disk is full');
    await use();
    guest.records.failure = undefined;
  };
  const retries = async (bytes: Buffer): Promise<void> => {
    assert.equal(codeOf(await guest.execute(bytes)), TPM_RC.RETRY);
  };

  it('answers RETRY, has changed nothing, and executes the same command once when the disk is back', async () => {
    await run(guest.execute, Commands.NV_DefineSpace, DEFINE);
    await run(guest.execute, Commands.NV_Increment, ON_INDEX);
    const before = await count();
    const increment = frame(Commands.NV_Increment, ON_INDEX, [password('')]);
    await whileFailing(async () => {
      await retries(increment);
      await retries(increment);
      assert.equal(await count(), before, 'reading goes on, and shows nothing of it');
    });
    assert.equal(codeOf(await guest.execute(increment)), TPM_RC.SUCCESS);
    assert.equal(await count(), before + 1n);
    assert.equal((await (await guest.reopen()).records.load('nv/')).length, 1);
  });

  it('undoes what a command did to volatile state', async () => {
    const digests = [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 3) }] as const;
    const extend = (): Promise<unknown> => run(guest.execute, Commands.PCR_Extend, { pcrHandle: 10, digests: [...digests] });
    await extend();
    const pcr = guest.tpm.readPcr(TPM_ALG.SHA256, 10);
    await whileFailing(async () => {
      await retries(frame(Commands.Clear, { authHandle: TPM_RH.LOCKOUT }, [password('')]));
      await retries(frame(Commands.Shutdown, { shutdownType: TPM_SU.STATE }));
    });
    assert.deepEqual(guest.tpm.readPcr(TPM_ALG.SHA256, 10), pcr);
    await run(guest.execute, Commands.Shutdown, { shutdownType: TPM_SU.STATE });
    // The first change after an orderly shutdown has to be noted durably.
    await whileFailing(() => retries(frame(Commands.PCR_Extend, { pcrHandle: 10, digests: [...digests] }, [password('')])));
    assert.deepEqual(guest.tpm.readPcr(TPM_ALG.SHA256, 10), pcr);
    await extend();
    assert.notDeepEqual(guest.tpm.readPcr(TPM_ALG.SHA256, 10), pcr);
  });

  it('keeps sessions and loaded objects', async () => {
    const { sessionHandle } = await run(guest.execute, Commands.StartAuthSession, {
      tpmKey: TPM_RH.NULL,
      bind: TPM_RH.NULL,
      nonceCaller: Buffer.alloc(16, 1),
      encryptedSalt: none,
      sessionType: 1,
      symmetric: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
      authHash: TPM_ALG.SHA256,
    });
    await run(guest.execute, Commands.PolicyCommandCode, { policySession: sessionHandle, code: Commands.NV_Read.code });
    const digest = async (): Promise<Buffer> =>
      (await run(guest.execute, Commands.PolicyGetDigest, { policySession: sessionHandle })).policyDigest;
    const before = await digest();
    await whileFailing(() => retries(frame(Commands.NV_DefineSpace, DEFINE, [password('')])));
    assert.deepEqual(await digest(), before);
    const { capabilityData } = await run(guest.execute, Commands.GetCapability, {
      capability: TPM_CAP.HANDLES,
      property: INDEX,
      propertyCount: 1,
    });
    assert.deepEqual(capabilityData, { capability: TPM_CAP.HANDLES, data: [] });
    await run(guest.execute, Commands.NV_DefineSpace, DEFINE);
  });

  it('says it once in the log', async () => {
    const define = frame(Commands.NV_DefineSpace, DEFINE, [password('')]);
    await whileFailing(async () => {
      for (let i = 0; i < 5; i++) {
        await retries(define);
        await run(guest.execute, Commands.GetRandom, { bytesRequested: 8 });
      }
    });
    assert.equal(guest.failures.length, 1);
    assert.equal(codeOf(await guest.execute(define)), TPM_RC.SUCCESS);
    await whileFailing(() => retries(frame(Commands.NV_Increment, ON_INDEX, [password('')])));
    assert.equal(guest.failures.length, 2);
  });

  it('needs no disk for what is volatile', async () => {
    await whileFailing(async () => {
      const { randomBytes: one } = await run(guest.execute, Commands.GetRandom, { bytesRequested: 8 });
      const { randomBytes: other } = await run(guest.execute, Commands.GetRandom, { bytesRequested: 8 });
      assert.equal(one.length, 8);
      assert.notDeepEqual(one, other);
      const digest = Buffer.alloc(32, 3);
      await run(guest.execute, Commands.PCR_Extend, { pcrHandle: 10, digests: [{ hashAlg: TPM_ALG.SHA256, digest }] });
      assert.deepEqual(guest.tpm.readPcr(TPM_ALG.SHA256, 10), hash(TPM_ALG.SHA256, Buffer.alloc(32), digest));
    });
    assert.deepEqual(guest.failures, []);
  });

  it('goes on by itself where the state of before cannot be read at once', async () => {
    await run(guest.execute, Commands.NV_DefineSpace, DEFINE);
    const increment = frame(Commands.NV_Increment, ON_INDEX, [password('')]);
    guest.records.unreadable = new StoreError('reading the state of a guest', 'the disk cannot be read', 'look at the disk');
    await whileFailing(() => retries(increment));
    await retries(frame(Commands.GetRandom, { bytesRequested: 8 }));
    guest.records.unreadable = undefined;
    assert.equal(codeOf(await guest.execute(increment)), TPM_RC.SUCCESS);
    assert.equal(await count(), 1n, 'it was incremented once');
  });
});
