// What the platform port of the simulator signals besides power (ms-tpm-20-ref, TPMCmdp.c), and what the TPM makes of it.
import assert from 'node:assert/strict';
import type { Request } from '../../src/tpm/command.js';
import * as Commands from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_CC, TPM_PT, TPM_RH, TPM_SE, TPM_SU, TPMA_NV } from '../../src/tpm/constants/index.js';
import { policyDigest } from '../../src/tpm/policy-digest.js';
import { atSession, TPM_RC } from '../../src/tpm/response-code.js';
import { expectCode, none, password, run } from '../support/frames.js';
import { createPrimary } from '../support/primary-keys.js';
import { ClientSession, execWithSessions } from '../support/sessions.js';
import { eccTemplate } from '../support/templates.js';
import { openTestTpm, type TestTpm } from '../support/vtpm.js';

const nvIndex = 0x01500001;
const publicInfo = {
  nvIndex,
  nameAlg: TPM_ALG.SHA256,
  attributes: TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE,
  authPolicy: none,
  dataSize: 8,
} as const;
const protectedIndex = { ...publicInfo, attributes: publicInfo.attributes | TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE } as const;
const define = { authHandle: TPM_RH.OWNER, auth: none, publicInfo } as const;
const write = { authHandle: TPM_RH.OWNER, nvIndex, data: Buffer.from('01234567'), offset: 0 } as const;
const read = { authHandle: TPM_RH.OWNER, nvIndex, size: 8, offset: 0 } as const;
const extend = { pcrHandle: 16, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }] } as Request<
  typeof Commands.PCR_Extend
>;

describe('signals of the platform', () => {
  let guest: TestTpm;
  beforeEach(async () => {
    guest = await openTestTpm();
  });
  afterEach(() => {
    assert.deepEqual(guest.failures, []);
  });

  it('without NV what would write to it is refused and not done; all else works', async () => {
    const { execute, tpm } = guest;
    await run(execute, Commands.NV_DefineSpace, define);
    await run(execute, Commands.NV_Write, write);
    const key = await createPrimary(execute, eccTemplate(), { hierarchy: TPM_RH.NULL });
    await tpm.signal('nv off');
    await expectCode(execute, TPM_RC.NV_UNAVAILABLE, Commands.NV_Write, { ...write, data: Buffer.from('changed!') });
    await expectCode(execute, TPM_RC.NV_UNAVAILABLE, Commands.HierarchyChangeAuth, { authHandle: TPM_RH.OWNER, newAuth: Buffer.from('x') });
    await expectCode(execute, TPM_RC.NV_UNAVAILABLE, Commands.NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex });
    await expectCode(execute, TPM_RC.NV_UNAVAILABLE, Commands.Clear, { authHandle: TPM_RH.LOCKOUT });
    await expectCode(execute, TPM_RC.NV_UNAVAILABLE, Commands.Shutdown, { shutdownType: TPM_SU.STATE });
    // What is wrong with a command is told first.
    await expectCode(execute, TPM_RC.NV_RANGE, Commands.NV_Write, { ...write, offset: 4 });
    assert.equal((await run(execute, Commands.NV_Read, read)).data.toString(), '01234567');
    await run(execute, Commands.PCR_Extend, extend);
    await run(execute, Commands.GetRandom, { bytesRequested: 8 });
    await run(execute, Commands.FlushContext, { flushHandle: key.handle });
    await tpm.signal('nv on');
    await run(execute, Commands.NV_Write, { ...write, data: Buffer.from('changed!') });
    assert.equal((await run(execute, Commands.NV_Read, read)).data.toString(), 'changed!');
  });

  it('a command that NV refused leaves nothing behind, in memory neither', async () => {
    const { execute, tpm } = guest;
    await run(execute, Commands.NV_DefineSpace, define);
    await run(execute, Commands.NV_Write, write);
    const { sessionHandle } = await run(execute, Commands.StartAuthSession, {
      ...{ tpmKey: TPM_RH.NULL, bind: TPM_RH.NULL, nonceCaller: Buffer.alloc(16), encryptedSalt: none },
      ...{ sessionType: TPM_SE.HMAC, symmetric: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null }, authHash: TPM_ALG.SHA256 },
    });
    await run(execute, Commands.PCR_Extend, extend);
    const pcr = tpm.readPcr(TPM_ALG.SHA256, 16);
    await tpm.signal('nv off');
    for (let i = 0; i < 3; i++) await expectCode(execute, TPM_RC.NV_UNAVAILABLE, Commands.NV_Write, write);
    assert.deepEqual(tpm.readPcr(TPM_ALG.SHA256, 16), pcr);
    await run(execute, Commands.FlushContext, { flushHandle: sessionHandle });
  });

  it('without NV nobody finds out whether an authorization value is right whose failures are counted', async () => {
    const { execute, tpm } = guest;
    await run(execute, Commands.NV_DefineSpace, { ...define, auth: Buffer.from('right'), publicInfo: protectedIndex });
    const own = { authHandle: nvIndex, nvIndex, size: 8, offset: 0 } as const;
    const write = { authHandle: nvIndex, nvIndex, data: Buffer.alloc(8), offset: 0 } as const;
    await run(execute, Commands.NV_Write, write, [password('right')]);
    const lockout = { capability: TPM_CAP.TPM_PROPERTIES, property: TPM_PT.LOCKOUT_COUNTER, propertyCount: 1 } as const;
    await tpm.signal('nv off');
    for (const guess of ['wrong', 'right', 'wrong']) {
      await expectCode(execute, TPM_RC.NV_UNAVAILABLE, Commands.NV_Read, own, [password(guess)]);
    }
    await tpm.signal('nv on');
    assert.equal((await run(execute, Commands.NV_Read, own, [password('right')])).data.length, 8);
    const { capabilityData } = await run(execute, Commands.GetCapability, lockout);
    assert.deepEqual(capabilityData.data, [{ property: TPM_PT.LOCKOUT_COUNTER, value: 0 }]);
  });

  it('power that comes back brings NV with it', async () => {
    const { execute, tpm } = guest;
    await run(execute, Commands.NV_DefineSpace, define);
    await tpm.signal('nv off');
    await tpm.powerOff();
    await tpm.signal('nv off');
    await guest.powerCycle();
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    await run(execute, Commands.NV_Write, write);
  });

  it('without NV there is no startup', async () => {
    const { execute, tpm } = guest;
    await guest.powerCycle();
    await tpm.signal('nv off');
    await expectCode(execute, TPM_RC.NV_UNAVAILABLE, Commands.Startup, { startupType: TPM_SU.CLEAR });
    await tpm.signal('nv on');
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
  });

  it('somebody who is present satisfies PolicyPhysicalPresence, until he goes', async () => {
    const { execute, tpm } = guest;
    const authPolicy = policyDigest([[Commands.PolicyPhysicalPresence, {}]], TPM_ALG.SHA256);
    await run(execute, Commands.SetPrimaryPolicy, { authHandle: TPM_RH.OWNER, authPolicy, hashAlg: TPM_ALG.SHA256 });
    const change = async (): Promise<number> => {
      const session = await ClientSession.start(execute, { type: TPM_SE.POLICY });
      await run(execute, Commands.PolicyPhysicalPresence, { policySession: session.handle });
      const use = { session, withoutAuth: true, attributes: 0 };
      const { code } = await execWithSessions(
        execute,
        Commands.NV_DefineSpace,
        { ...define, publicInfo: { ...publicInfo, nvIndex: next++ } },
        [use],
      );
      return code;
    };
    let next = 0x01500100;
    assert.equal(await change(), atSession(TPM_RC.PP, 1));
    await tpm.signal('presence on');
    assert.equal(await change(), TPM_RC.SUCCESS);
    await tpm.signal('presence off');
    assert.equal(await change(), atSession(TPM_RC.PP, 1));
  });

  it('PP_Commands, with presence, makes commands of the platform need it', async () => {
    const { execute, tpm } = guest;
    const auth = TPM_RH.PLATFORM;
    const pp = { auth, setList: [TPM_CC.ClockSet, TPM_CC.GetRandom], clearList: [] };
    const listed = async (): Promise<unknown> =>
      (await run(execute, Commands.GetCapability, { capability: TPM_CAP.PP_COMMANDS, property: 0, propertyCount: 100 })).capabilityData
        .data;
    await expectCode(execute, atSession(TPM_RC.PP, 1), Commands.PP_Commands, pp);
    await tpm.signal('presence on');
    await run(execute, Commands.PP_Commands, pp);
    assert.deepEqual(
      await listed(),
      [TPM_CC.PP_Commands, TPM_CC.ClockSet].sort((a, b) => a - b),
    );
    await run(execute, Commands.ClockSet, { auth, newTime: 1_000_000n });
    await tpm.signal('presence off');
    await expectCode(execute, atSession(TPM_RC.PP, 1), Commands.ClockSet, { auth, newTime: 2_000_000n });
    // The owner may without.
    await run(execute, Commands.ClockSet, { auth: TPM_RH.OWNER, newTime: 3_000_000n });
    const again = await guest.reopen();
    await again.tpm.signal('presence on');
    await run(again.execute, Commands.PP_Commands, { auth, setList: [], clearList: [TPM_CC.ClockSet, TPM_CC.PP_Commands] });
    const { capabilityData } = await run(again.execute, Commands.GetCapability, {
      capability: TPM_CAP.PP_COMMANDS,
      property: 0,
      propertyCount: 100,
    });
    assert.deepEqual(capabilityData.data, [TPM_CC.PP_Commands]);
  });

  it('a self-test that is to fail stops the TPM until power comes anew', async () => {
    const { execute, tpm } = guest;
    await tpm.signal('fail self-test');
    await run(execute, Commands.GetRandom, { bytesRequested: 8 });
    await expectCode(execute, TPM_RC.FAILURE, Commands.SelfTest, { fullTest: 1 });
    await expectCode(execute, TPM_RC.FAILURE, Commands.GetRandom, { bytesRequested: 8 });
    await guest.powerCycle();
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    await run(execute, Commands.SelfTest, { fullTest: 1 });
  });

  it('a timer that begins anew leaves all else as it was', async () => {
    const { execute, tpm } = guest;
    await run(execute, Commands.PCR_Extend, extend);
    const pcr = tpm.readPcr(TPM_ALG.SHA256, 16);
    await run(execute, Commands.ClockSet, { auth: TPM_RH.OWNER, newTime: 5_000_000n });
    await new Promise((resolve) => setTimeout(resolve, 30));
    const before = (await run(execute, Commands.ReadClock, {})).currentTime;
    await tpm.signal('restart timer');
    const after = (await run(execute, Commands.ReadClock, {})).currentTime;
    assert.ok(after.time < before.time && after.clockInfo.clock >= before.clockInfo.clock);
    assert.equal(after.clockInfo.resetCount, before.clockInfo.resetCount);
    assert.deepEqual(tpm.readPcr(TPM_ALG.SHA256, 16), pcr);
  });
});
