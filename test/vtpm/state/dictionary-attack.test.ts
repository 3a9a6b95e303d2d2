// Dictionary attack protection, side by side with swtpm.
import assert from 'node:assert/strict';
import {
  CreatePrimary,
  DictionaryAttackLockReset,
  DictionaryAttackParameters,
  FlushContext,
  GetCapability,
  HashSequenceStart,
  HMAC,
  ReadPublic,
  SequenceUpdate,
  Shutdown,
  Startup,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_PT, TPM_RH, TPM_SU, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { type Differential, startDifferential } from '../../support/differential.js';
import { codeOf, frame, none, password, run } from '../../support/frames.js';
import { ClientSession, execWithSessions } from '../../support/sessions.js';
import { hmacTemplate } from '../../support/templates.js';
import { openTestTpm } from '../../support/vtpm.js';

const { OWNER, PLATFORM, LOCKOUT, NULL } = TPM_RH;

describe('dictionary attack functions', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });
  const counters = [TPM_PT.PERMANENT, TPM_PT.LOCKOUT_COUNTER, TPM_PT.MAX_AUTH_FAIL, TPM_PT.LOCKOUT_INTERVAL, TPM_PT.LOCKOUT_RECOVERY];

  it('parameters and reset', async () => {
    for (const lockHandle of [OWNER, PLATFORM]) await both.code(DictionaryAttackLockReset, { lockHandle });
    for (const newMaxTries of [0, 1, 0xffffffff]) {
      const request = { lockHandle: LOCKOUT, newMaxTries, newRecoveryTime: 10, lockoutRecovery: 11 };
      await both.runSame(DictionaryAttackParameters, request);
      await both.sameProperties(counters);
    }
    await both.runSame(DictionaryAttackLockReset, { lockHandle: LOCKOUT });
    await both.code(DictionaryAttackParameters, { lockHandle: LOCKOUT, newMaxTries: 1, newRecoveryTime: 1, lockoutRecovery: 1 }, []);
  });

  it('a wrong lockoutAuth blocks it until the TPM restarts, if its recovery time is 0', async () => {
    await both.runSame(DictionaryAttackParameters, { lockHandle: LOCKOUT, newMaxTries: 4, newRecoveryTime: 10, lockoutRecovery: 0 });
    assert.equal(await both.code(DictionaryAttackLockReset, { lockHandle: LOCKOUT }, [password('wrong')]), TPM_RC.AUTH_FAIL | 0x900);
    assert.equal(await both.code(DictionaryAttackLockReset, { lockHandle: LOCKOUT }), TPM_RC.LOCKOUT);
    await both.sameProperties(counters);
    await both.restart();
    await both.runSame(DictionaryAttackLockReset, { lockHandle: LOCKOUT });
  });
});

describe('dictionary attacks on a key', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });
  const handle = 0x80000000;
  const counters = [TPM_PT.PERMANENT, TPM_PT.LOCKOUT_COUNTER, TPM_PT.STARTUP_CLEAR];
  const use = (auth: string): Promise<number> => both.code(HMAC, { handle, buffer: none, hashAlg: TPM_ALG.NULL }, [password(auth)]);

  async function makeKey(noDA = 0): Promise<void> {
    const inPublic = { ...hmacTemplate(), objectAttributes: hmacTemplate().objectAttributes | noDA };
    const inSensitive = { userAuth: Buffer.from('key'), data: none };
    await both.run(CreatePrimary, { primaryHandle: NULL, inSensitive, inPublic, outsideInfo: none, creationPCR: [] });
  }

  it('lock the TPM out, but not those that are exempt', async () => {
    await makeKey();
    for (const auth of ['key', 'wrong', 'key', 'wrong', 'wrong', 'wrong', 'key']) {
      const code = await both.sameCode(frame(HMAC, { handle, buffer: none, hashAlg: TPM_ALG.SHA1 }, [password(auth)]), 0, auth);
      assert.notEqual(code, 0);
      await both.sameProperties(counters);
    }
    assert.equal(await use('key'), TPM_RC.LOCKOUT);
    await both.runSame(DictionaryAttackLockReset, { lockHandle: LOCKOUT });
    await both.sameProperties(counters);
    await both.both(frame(HMAC, { handle, buffer: none, hashAlg: TPM_ALG.NULL }, [password('key')]));
    await both.runSame(FlushContext, { flushHandle: handle });
    await makeKey(TPMA_OBJECT.noDA);
    for (let i = 0; i < 5; i++) assert.equal(await use('wrong'), TPM_RC.BAD_AUTH | 0x900);
    await both.sameProperties(counters);
  });

  it('in HMAC sessions, salted by nothing, and in sessions bound to the key', async () => {
    await both.runSame(DictionaryAttackParameters, { lockHandle: LOCKOUT, newMaxTries: 20, newRecoveryTime: 1000, lockoutRecovery: 1000 });
    await both.runSame(FlushContext, { flushHandle: handle });
    await makeKey();
    const codes: number[][] = [];
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      const { name } = await run(execute, ReadPublic, { objectHandle: handle }, []);
      const names = new Map([[handle, name]]);
      const request = { handle, buffer: none, hashAlg: TPM_ALG.NULL };
      const mine: number[] = [];
      for (const bind of [undefined, { handle, auth: Buffer.from('key') }, { handle, auth: Buffer.from('wrong') }]) {
        const session = await ClientSession.start(execute, bind && { bind });
        for (const auth of ['key', 'wrong']) mine.push((await execWithSessions(execute, HMAC, request, [{ session, auth }], names)).code);
        await session.end(execute);
      }
      codes.push(mine);
    }
    assert.deepEqual(codes[0], codes[1]);
    await both.sameProperties(counters);
  });

  it('a crash after an authorization was checked counts as one that failed', async () => {
    assert.equal(await use('key'), 0);
    await both.restart();
    await both.sameProperties(counters);
    await both.restart();
    await both.sameProperties(counters);
    await makeKey();
    assert.equal(await use('key'), 0);
    await both.runSame(Shutdown, { shutdownType: TPM_SU.CLEAR });
    await both.restart();
    await both.sameProperties(counters);
    await makeKey();
    await both.runSame(Shutdown, { shutdownType: TPM_SU.STATE });
    assert.equal(await use('wrong'), TPM_RC.AUTH_FAIL | 0x900);
    await both.restart();
    await both.sameProperties(counters);
  });

  it('an orderly end of power by the machine costs nothing, a power failure counts one, as does what could not be counted', async () => {
    const guest = await openTestTpm();
    const { execute, tpm } = guest;
    const lockoutCounter = async (): Promise<number | undefined> => {
      const ask = { capability: TPM_CAP.TPM_PROPERTIES, property: TPM_PT.LOCKOUT_COUNTER, propertyCount: 1 };
      const { capabilityData } = await run(execute, GetCapability, ask);
      return capabilityData.capability === TPM_CAP.TPM_PROPERTIES ? capabilityData.data[0]?.value : undefined;
    };
    const inSensitive = { userAuth: Buffer.from('key'), data: none };
    const request = { primaryHandle: NULL, inSensitive, inPublic: hmacTemplate(), outsideInfo: none, creationPCR: [] };
    const useOnce = async (auth: string): Promise<number> => {
      await run(execute, CreatePrimary, request);
      return codeOf(await execute(frame(HMAC, { handle, buffer: none, hashAlg: TPM_ALG.NULL }, [password(auth)])));
    };
    const ends: Record<string, () => Promise<void>> = {
      'a reset by the machine': () => tpm.init(true),
      'an end by the machine or the operator': async () => {
        await tpm.powerOff(true);
        await tpm.powerOn();
      },
    };
    for (const [name, end] of Object.entries(ends)) {
      for (let i = 0; i < 4; i++) {
        assert.equal(await useOnce('key'), 0, name);
        await end();
        await run(execute, Startup, { startupType: TPM_SU.CLEAR });
      }
      assert.equal(await lockoutCounter(), 0, name);
    }
    assert.equal(await useOnce('key'), 0);
    await tpm.powerOff();
    await tpm.powerOn();
    await run(execute, Startup, { startupType: TPM_SU.CLEAR });
    assert.equal(await lockoutCounter(), 1, 'a failure may have been lost');
    assert.equal(await useOnce('key'), 0);
    guest.records.failure = new Error('the disk is full');
    assert.equal(codeOf(await execute(frame(HMAC, { handle, buffer: none, hashAlg: TPM_ALG.NULL }, [password('wrong')]))), TPM_RC.RETRY);
    await assert.doesNotReject(tpm.powerOff(true));
    guest.records.failure = undefined;
    await tpm.powerOn();
    await run(execute, Startup, { startupType: TPM_SU.CLEAR });
    assert.equal(await lockoutCounter(), 2, 'one that was not counted');
  });

  it('what the guest shut down itself stays as it was', async () => {
    const { execute, tpm } = await openTestTpm();
    await run(execute, Shutdown, { shutdownType: TPM_SU.STATE });
    await tpm.powerOff(true);
    await tpm.powerOn();
    assert.equal(codeOf(await execute(frame(Startup, { startupType: TPM_SU.STATE }))), 0);
  });

  it('a failure is durable before it is answered', async () => {
    const first = await openTestTpm();
    const inSensitive = { userAuth: Buffer.from('key'), data: none };
    const request = { primaryHandle: NULL, inSensitive, inPublic: hmacTemplate(), outsideInfo: none, creationPCR: [] };
    await run(first.execute, CreatePrimary, request);
    await first.execute(frame(HMAC, { handle, buffer: none, hashAlg: TPM_ALG.NULL }, [password('wrong')]));
    const disk = first.records.copy();
    const second = await openTestTpm({ records: disk, keys: first.keys });
    const ask = { capability: TPM_CAP.TPM_PROPERTIES, property: TPM_PT.LOCKOUT_COUNTER, propertyCount: 1 };
    const { capabilityData } = await run(second.execute, GetCapability, ask);
    assert.deepEqual(capabilityData.data, [{ property: TPM_PT.LOCKOUT_COUNTER, value: 2 }]);
  });

  it('more objects than a small chip has', async () => {
    const { execute } = await openTestTpm();
    const handles: number[] = [];
    for (let i = 0; i < 16; i++)
      handles.push((await run(execute, HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 })).sequenceHandle);
    for (const sequenceHandle of handles) await run(execute, SequenceUpdate, { sequenceHandle, buffer: none });
  });
});
