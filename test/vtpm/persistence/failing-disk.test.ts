// What a guest sees while its changes cannot be made durable: TPM_RC_RETRY, and nothing of the command; then everything goes on.
import assert from 'node:assert/strict';
import { TPM_ALG, TPM_CAP, TPM_NT, TPM_PT, TPM_RH, TPM_SU, TPMA_NV } from '../../../src/tpm/constants/index.js';
import * as Commands from '../../../src/tpm/commands/index.js';
import { StoreError } from '../../../src/store/store-error.js';
import { hash } from '../../../src/tpm/hash.js';
import { baseCode, TPM_RC } from '../../../src/tpm/response-code.js';
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

  describe('and dictionary-attack protection', () => {
    const PIN = 0x01500002;
    const maxTries = 3;
    const attributes = (extra: number): number => (TPMA_NV.AUTHREAD | TPMA_NV.OWNERWRITE | extra) >>> 0;
    const define = (nvIndex: number, kind: number, auth: string) =>
      run(guest.execute, Commands.NV_DefineSpace, {
        authHandle: TPM_RH.OWNER,
        auth: Buffer.from(auth),
        publicInfo: { nvIndex, nameAlg: TPM_ALG.SHA256, attributes: kind, authPolicy: none, dataSize: 8 },
      });
    const write = (nvIndex: number, data: Buffer) =>
      run(guest.execute, Commands.NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data, offset: 0 });
    const readFrame = (nvIndex: number, auth: string): Buffer =>
      frame(Commands.NV_Read, { authHandle: nvIndex, nvIndex, size: 8, offset: 0 }, [password(auth)]);
    const codeFor = async (bytes: Buffer): Promise<number> => baseCode(codeOf(await guest.execute(bytes)));
    const failures = async (): Promise<number> => {
      const { capabilityData } = await run(guest.execute, Commands.GetCapability, {
        capability: TPM_CAP.TPM_PROPERTIES,
        property: TPM_PT.LOCKOUT_COUNTER,
        propertyCount: 1,
      });
      return capabilityData.capability === TPM_CAP.TPM_PROPERTIES ? (capabilityData.data[0]?.value ?? -1) : -1;
    };
    const parameters = { lockHandle: TPM_RH.LOCKOUT, newMaxTries: maxTries, newRecoveryTime: 1000, lockoutRecovery: 1000 };

    beforeEach(async () => {
      await run(guest.execute, Commands.DictionaryAttackParameters, parameters);
      await define(INDEX, attributes(0), 'secret');
      await write(INDEX, Buffer.alloc(8, 1));
      await define(PIN, attributes(TPMA_NV.NO_DA | (TPM_NT.PIN_FAIL << 4)), 'pin');
      // pinCount 0, pinLimit 3
      await write(PIN, Buffer.from('0000000000000003', 'hex'));
      // An authorization under protection was checked since the start: that is durable already.
      assert.equal(await codeFor(readFrame(INDEX, 'secret')), 0);
    });

    it('compares nothing after a guess that it could not count, right or wrong, and counts it when the disk is back', async () => {
      await whileFailing(async () => {
        assert.equal(await codeFor(readFrame(INDEX, 'guess')), TPM_RC.RETRY);
        for (let i = 0; i < 37; i++) assert.equal(await codeFor(readFrame(INDEX, `guess ${i.toString()}`)), TPM_RC.RETRY);
        assert.equal(await codeFor(readFrame(INDEX, 'secret')), TPM_RC.RETRY, 'the right one tells no more than a wrong one');
        assert.equal(await codeFor(readFrame(PIN, 'pin')), TPM_RC.RETRY);
        const reset = frame(Commands.DictionaryAttackLockReset, { lockHandle: TPM_RH.LOCKOUT }, [password('')]);
        assert.equal(await codeFor(reset), TPM_RC.RETRY);
        assert.equal(await codeFor(frame(Commands.GetRandom, { bytesRequested: 8 })), 0, 'what counts no failure goes on');
      });
      assert.equal(await codeFor(readFrame(INDEX, 'secret')), 0);
      assert.equal(await failures(), 1, 'the guess that was compared');
    });

    it('compares nothing once a write has failed, whatever it was', async () => {
      await whileFailing(async () => {
        await retries(frame(Commands.NV_DefineSpace, { ...DEFINE, publicInfo: { ...publicInfo, nvIndex: 0x01500009 } }, [password('')]));
        assert.equal(await codeFor(readFrame(INDEX, 'secret')), TPM_RC.RETRY);
        assert.equal(await codeFor(readFrame(INDEX, 'guess')), TPM_RC.RETRY);
        assert.equal(await codeFor(readFrame(PIN, 'guess')), TPM_RC.RETRY);
      });
      assert.equal(await codeFor(readFrame(INDEX, 'secret')), 0);
      assert.equal(await failures(), 0);
    });

    it('a guess each time that the disk fails is not free: lockout comes as ever', async () => {
      for (let i = 0; i < maxTries; i++) {
        await whileFailing(async () => {
          assert.equal(await codeFor(readFrame(INDEX, `guess ${i.toString()}`)), TPM_RC.RETRY);
        });
        await run(guest.execute, Commands.NV_ReadPublic, { nvIndex: INDEX });
        assert.equal(await codeFor(frame(Commands.ReadClock, {}, undefined)), 0);
        // An authorization that counts no failure lets the count be written.
        await run(guest.execute, Commands.ClockRateAdjust, { auth: TPM_RH.OWNER, rateAdjust: 0 });
        assert.equal(await failures(), i + 1);
      }
      assert.equal(await codeFor(readFrame(INDEX, 'secret')), TPM_RC.LOCKOUT);
    });

    it('counts for a PIN index as well', async () => {
      await whileFailing(async () => {
        for (let i = 0; i < 5; i++) assert.equal(await codeFor(readFrame(PIN, 'guess')), TPM_RC.RETRY);
      });
      await run(guest.execute, Commands.ClockRateAdjust, { auth: TPM_RH.OWNER, rateAdjust: 0 });
      const { data } = await run(guest.execute, Commands.NV_Read, { authHandle: PIN, nvIndex: PIN, size: 8, offset: 0 }, [password('pin')]);
      // A right PIN sets it back to 0, so the wrong one is seen only in between.
      assert.equal(data.readUInt32BE(4), 3);
      for (let i = 0; i < 3; i++) {
        await whileFailing(async () => {
          assert.equal(await codeFor(readFrame(PIN, 'guess')), TPM_RC.RETRY);
        });
        await run(guest.execute, Commands.ClockRateAdjust, { auth: TPM_RH.OWNER, rateAdjust: 0 });
      }
      assert.equal(await codeFor(readFrame(PIN, 'guess')), TPM_RC.AUTH_UNAVAILABLE, 'the limit is reached');
    });

    it('owes it over a power cycle and to the next process', async () => {
      await whileFailing(async () => {
        assert.equal(await codeFor(readFrame(INDEX, 'guess')), TPM_RC.RETRY);
      });
      await guest.powerCycle();
      await run(guest.execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
      assert.equal(await codeFor(readFrame(INDEX, 'secret')), 0);
      // Another one for the power cycle: without a shutdown, a failure may have gone unrecorded.
      assert.equal(await failures(), 2);
    });
  });
});
