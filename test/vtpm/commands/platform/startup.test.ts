// TPM2_Startup and TPM2_Shutdown, side by side with swtpm.
import assert from 'node:assert/strict';
import {
  DictionaryAttackParameters,
  GetCapability,
  GetRandom,
  HierarchyChangeAuth,
  HierarchyControl,
  PCR_Extend,
  PCR_Read,
  PCR_SetAuthValue,
  ReadClock,
  Shutdown,
  Startup,
} from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_PT, TPM_RH, TPM_SU } from '../../../../src/tpm/constants/index.js';
import { atParameter, TPM_RC } from '../../../../src/tpm/response-code.js';
import type { Differential } from '../../../support/differential.js';
import { startDifferential } from '../../../support/differential.js';
import { codeOf, frame, password, rawFrame, run } from '../../../support/frames.js';
import { openTestTpm } from '../../../support/vtpm.js';

const { CLEAR, STATE } = TPM_SU;
const digest = { hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 7) } as const;

/** What both TPMs say of the properties that a startup changes, of PCRs and of counters. */
async function sameState(both: Differential): Promise<void> {
  for (const property of [TPM_PT.PERMANENT, TPM_PT.STARTUP_CLEAR, TPM_PT.LOCKOUT_COUNTER]) {
    await both.same(frame(GetCapability, { capability: TPM_CAP.TPM_PROPERTIES, property, propertyCount: 1 }));
  }
  for (const pcrSelect of ['010000', '000001', '000010', 'feff00'].map((hex) => Buffer.from(hex, 'hex'))) {
    await both.same(frame(PCR_Read, { pcrSelectionIn: [{ hash: TPM_ALG.SHA256, pcrSelect }] }));
  }
  const { ours, theirs } = await both.run(ReadClock, {});
  const counters = ({ currentTime: { clockInfo } }: typeof ours): unknown => [clockInfo.resetCount, clockInfo.restartCount];
  assert.deepEqual(counters(ours), counters(theirs));
}

describe('Startup and Shutdown', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });

  it('refuses commands before Startup and a second Startup after it', async () => {
    assert.equal(await both.code(Startup, { startupType: CLEAR }), TPM_RC.INITIALIZE);
    await both.powerCycle();
    assert.equal(await both.code(GetRandom, { bytesRequested: 1 }), TPM_RC.INITIALIZE);
    assert.equal(await both.code(Startup, { startupType: CLEAR }), 0);
  });

  it('refuses Startup(STATE) without Shutdown(STATE), other localities, sessions, rubbish', async () => {
    await both.powerCycle();
    assert.equal(await both.code(Startup, { startupType: STATE }), atParameter(TPM_RC.VALUE, 1));
    for (const locality of [1, 2, 4]) assert.equal(await both.code(Startup, { startupType: CLEAR }, [], locality), TPM_RC.LOCALITY);
    await both.sameCode(rawFrame(Startup.code, [], Buffer.of(0, 0), [password()]));
    for (const hex of ['', '00', '0002', 'ffff', '000000']) await both.sameCode(rawFrame(Startup.code, [], Buffer.from(hex, 'hex')));
    assert.equal(await both.code(Startup, { startupType: CLEAR }), 0);
    for (const hex of ['', '00', '0002', 'ffff', '000000']) await both.sameCode(rawFrame(Shutdown.code, [], Buffer.from(hex, 'hex')));
  });

  for (const [first, second] of [
    [CLEAR, CLEAR],
    [STATE, CLEAR],
    [STATE, STATE],
    [CLEAR, STATE],
  ] as const) {
    it(`Shutdown(${first === CLEAR ? 'CLEAR' : 'STATE'}), Startup(${second === CLEAR ? 'CLEAR' : 'STATE'})`, async () => {
      await both.runSame(HierarchyChangeAuth, { authHandle: TPM_RH.PLATFORM, newAuth: Buffer.from('p') });
      await both.runSame(HierarchyControl, { authHandle: TPM_RH.OWNER, enable: TPM_RH.OWNER, state: 0 });
      for (const pcrHandle of [0, 1, 16, 23]) await both.runSame(PCR_Extend, { pcrHandle, digests: [digest] });
      await both.runSame(PCR_SetAuthValue, { pcrHandle: 20, auth: Buffer.from('pcr') });
      await both.runSame(Shutdown, { shutdownType: first });
      await both.powerCycle();
      const code = await both.code(Startup, { startupType: second });
      if (code !== 0) assert.equal(await both.code(Startup, { startupType: CLEAR }), 0);
      await sameState(both);
      await both.code(HierarchyChangeAuth, { authHandle: TPM_RH.PLATFORM, newAuth: Buffer.alloc(0) });
      await both.code(HierarchyChangeAuth, { authHandle: TPM_RH.PLATFORM, newAuth: Buffer.alloc(0) }, [password('p')]);
      await both.code(PCR_SetAuthValue, { pcrHandle: 20, auth: Buffer.from('pcr') }, undefined, 2);
      await both.code(PCR_SetAuthValue, { pcrHandle: 20, auth: Buffer.alloc(0) }, [password('pcr')], 2);
      await both.code(HierarchyControl, { authHandle: TPM_RH.PLATFORM, enable: TPM_RH.OWNER, state: 1 });
      await sameState(both);
    });
  }

  it('a change after Shutdown makes it void', async () => {
    await both.runSame(Shutdown, { shutdownType: STATE });
    await both.runSame(PCR_Extend, { pcrHandle: 2, digests: [digest] });
    await both.powerCycle();
    assert.notEqual(await both.code(Startup, { startupType: STATE }), 0);
    assert.equal(await both.code(Startup, { startupType: CLEAR }), 0);
    await sameState(both);
    await both.runSame(Shutdown, { shutdownType: STATE });
    await both.runSame(PCR_Extend, { pcrHandle: 16, digests: [digest] });
    await both.powerCycle();
    assert.equal(await both.code(Startup, { startupType: STATE }), 0);
    await sameState(both);
  });

  it('the locality of Startup is in PCR 0, and must be the same for a resume', async () => {
    await both.powerCycle();
    assert.equal(await both.code(Startup, { startupType: CLEAR }, [], 3), 0);
    await sameState(both);
    await both.runSame(Shutdown, { shutdownType: STATE });
    await both.powerCycle();
    assert.equal(await both.code(Startup, { startupType: STATE }), TPM_RC.LOCALITY);
    assert.equal(await both.code(Startup, { startupType: STATE }, [], 3), 0);
    await sameState(both);
  });

  it('a crash counts as a failed authorization if one was checked before it', async () => {
    const request = { lockHandle: TPM_RH.LOCKOUT, newMaxTries: 5, newRecoveryTime: 1000, lockoutRecovery: 1000 };
    await both.runSame(DictionaryAttackParameters, request);
    await both.powerCycle();
    assert.equal(await both.code(Startup, { startupType: CLEAR }), 0);
    await sameState(both);
  });
});

describe('what Startup finds on the disk', () => {
  const clockOf = async (tpm: Awaited<ReturnType<typeof openTestTpm>>): Promise<{ clock: bigint; safe: number }> =>
    (await run(tpm.execute, ReadClock, {})).currentTime.clockInfo;

  it('an orderly shutdown survives the process; Clock goes on', async () => {
    const first = await openTestTpm();
    await run(first.execute, Shutdown, { shutdownType: CLEAR });
    const before = await clockOf(first);
    const second = await first.reopen();
    const after = await clockOf(second);
    assert.equal(after.safe, 1);
    assert.ok(after.clock >= before.clock - 5n && after.clock < before.clock + 5000n);
  });

  it('after a crash Clock is not safe and not behind', async () => {
    const first = await openTestTpm();
    const before = await clockOf(first);
    const after = await clockOf(await first.reopen());
    assert.equal(after.safe, 0);
    assert.ok(after.clock >= before.clock);
  });

  it('a change that cannot be made durable has not happened after a power cycle', async () => {
    const tpm = await openTestTpm();
    tpm.records.failure = new Error('disk full');
    const change = frame(HierarchyChangeAuth, { authHandle: TPM_RH.OWNER, newAuth: Buffer.from('new') });
    assert.equal(codeOf(await tpm.execute(change)), TPM_RC.RETRY);
    assert.equal(codeOf(await tpm.execute(frame(GetRandom, { bytesRequested: 1 }))), TPM_RC.SUCCESS);
    assert.equal(tpm.failures.length, 1);
    tpm.records.failure = undefined;
    await tpm.powerCycle();
    await run(tpm.execute, Startup, { startupType: CLEAR });
    await run(tpm.execute, HierarchyChangeAuth, { authHandle: TPM_RH.OWNER, newAuth: Buffer.alloc(0) });
  });
});
