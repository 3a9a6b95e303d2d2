// Hierarchy commands, side by side with swtpm.
import assert from 'node:assert/strict';
import {
  ChangeEPS,
  ChangePPS,
  Clear,
  ClearControl,
  CreatePrimary,
  DictionaryAttackParameters,
  GetCapability,
  HierarchyChangeAuth,
  HierarchyControl,
  PCR_Read,
  ReadClock,
  SetPrimaryPolicy,
} from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_PT, TPM_RH, TPMA_OBJECT, TPMA_SESSION } from '../../../../src/tpm/constants/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { type Execute, frame, none, password, rawFrame, run } from '../../../support/frames.js';
import { aesCfb, ClientSession, execWithSessions, runWithSessions } from '../../../support/sessions.js';
import { asParent, eccTemplate } from '../../../support/templates.js';
import { openTestTpm } from '../../../support/vtpm.js';

const { OWNER, ENDORSEMENT, PLATFORM, LOCKOUT, PLATFORM_NV, NULL } = TPM_RH;
const hierarchies = [OWNER, ENDORSEMENT, PLATFORM, LOCKOUT, PLATFORM_NV, NULL] as const;

const primaryRequest = (primaryHandle: number): Parameters<typeof run<typeof CreatePrimary>>[2] => ({
  primaryHandle,
  inSensitive: { userAuth: none, data: none },
  inPublic: asParent({ ...eccTemplate(), objectAttributes: TPMA_OBJECT.userWithAuth }),
  outsideInfo: none,
  creationPCR: [],
});

async function createPrimary(execute: Execute, primaryHandle: number): Promise<Buffer> {
  const { name } = await run(execute, CreatePrimary, primaryRequest(primaryHandle));
  return name;
}

describe('hierarchy commands', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });

  it('HierarchyControl: everyone enables and disables everything', async () => {
    for (const authHandle of hierarchies) {
      for (const enable of [...hierarchies, 0x40000000]) {
        for (const state of [0, 1, 1, 0] as const) {
          await both.code(HierarchyControl, { authHandle, enable, state });
          await both.sameProperties();
        }
        await both.restart();
      }
    }
    await both.sameCode(rawFrame(HierarchyControl.code, [PLATFORM], Buffer.from('4000000102', 'hex'), [password()]));
  });

  it('a disabled hierarchy', async () => {
    await both.run(CreatePrimary, primaryRequest(OWNER));
    await both.runSame(HierarchyControl, { authHandle: OWNER, enable: OWNER, state: 0 });
    await both.same(frame(GetCapability, { capability: TPM_CAP.HANDLES, property: 0x80000000, propertyCount: 10 }));
    await both.code(CreatePrimary, primaryRequest(OWNER));
    await both.code(HierarchyChangeAuth, { authHandle: OWNER, newAuth: none });
    await both.code(HierarchyControl, { authHandle: PLATFORM, enable: PLATFORM, state: 0 });
    await both.code(HierarchyControl, { authHandle: PLATFORM, enable: PLATFORM, state: 1 });
    await both.restart();
  });

  it('SetPrimaryPolicy', async () => {
    for (const authHandle of [...hierarchies, 0x40000110]) {
      for (const [size, hashAlg] of [
        [32, TPM_ALG.SHA256],
        [20, TPM_ALG.SHA256],
        [0, TPM_ALG.NULL],
        [32, TPM_ALG.NULL],
        [0, TPM_ALG.SHA256],
        [64, TPM_ALG.SHA512],
      ] as const) {
        await both.code(SetPrimaryPolicy, { authHandle, authPolicy: Buffer.alloc(size, 5), hashAlg });
        await both.sameProperties();
      }
    }
    await both.restart();
    await both.sameProperties();
  });

  it('HierarchyChangeAuth by password, HMAC, bound and encrypted sessions', async () => {
    for (const authHandle of hierarchies) await both.code(HierarchyChangeAuth, { authHandle, newAuth: none });
    for (const authHandle of [OWNER, ENDORSEMENT, PLATFORM, LOCKOUT]) {
      await both.runSame(HierarchyChangeAuth, { authHandle, newAuth: Buffer.from('one\0\0') });
      await both.sameProperties();
      for (const execute of [both.ours.execute, both.theirs.execute]) {
        const [one, two] = [Buffer.from('one'), Buffer.from('two')];
        const plain = await ClientSession.start(execute);
        assert.equal(
          (await execWithSessions(execute, HierarchyChangeAuth, { authHandle, newAuth: one }, [{ session: plain, auth: one }])).code,
          0,
        );
        const bound = await ClientSession.start(execute, { bind: { handle: authHandle, auth: one }, symmetric: aesCfb });
        const attributes = TPMA_SESSION.continueSession | TPMA_SESSION.decrypt;
        await runWithSessions(execute, HierarchyChangeAuth, { authHandle, newAuth: one }, [{ session: bound, auth: one, attributes }]);
        assert.notEqual(
          (
            await execWithSessions(execute, HierarchyChangeAuth, { authHandle, newAuth: two }, [
              { session: plain, auth: one, corrupt: true },
            ])
          ).code,
          0,
        );
        for (const session of [plain, bound]) await session.end(execute);
        if (authHandle === LOCKOUT) continue;
        await runWithSessions(execute, HierarchyChangeAuth, { authHandle, newAuth: none }, [{ auth: 'one' }]);
      }
    }
    await both.sameProperties();
    await both.restart();
    assert.notEqual(await both.code(Clear, { authHandle: LOCKOUT }), 0);
    await both.runSame(Clear, { authHandle: PLATFORM });
    await both.sameCode(rawFrame(HierarchyChangeAuth.code, [OWNER], Buffer.concat([Buffer.of(0, 65), Buffer.alloc(65)]), [password()]));
  });

  it('the HMAC of the response is made with the new authValue', async () => {
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      const change = async (auth: string, newAuth: string, bind?: { handle: number; auth: Buffer }): Promise<void> => {
        const session = await ClientSession.start(execute, bind && { bind });
        const request = { authHandle: OWNER, newAuth: Buffer.from(newAuth) };
        await runWithSessions(execute, HierarchyChangeAuth, request, [{ session, auth, newAuth, attributes: 0 }]);
      };
      await change('', 'new');
      await change('new', 'newer');
      await change('newer', 'newest', { handle: OWNER, auth: Buffer.from('newer') });
      await change('newest', '');
    }
  });

  it('ClearControl and Clear', async () => {
    for (const [auth, disable] of [
      [LOCKOUT, 0],
      [OWNER, 1],
      [LOCKOUT, 1],
      [LOCKOUT, 0],
    ] as const) {
      await both.code(ClearControl, { auth, disable });
      await both.sameProperties();
    }
    for (const authHandle of [LOCKOUT, PLATFORM, OWNER]) await both.code(Clear, { authHandle });
    await both.runSame(ClearControl, { auth: PLATFORM, disable: 0 });
    const request = { lockHandle: LOCKOUT, newMaxTries: 7, newRecoveryTime: 8, lockoutRecovery: 9 };
    await both.runSame(DictionaryAttackParameters, request);
    await both.runSame(SetPrimaryPolicy, { authHandle: OWNER, authPolicy: Buffer.alloc(32, 5), hashAlg: TPM_ALG.SHA256 });
    await both.runSame(HierarchyControl, { authHandle: PLATFORM, enable: ENDORSEMENT, state: 0 });
    for (const primaryHandle of [OWNER, PLATFORM]) await both.run(CreatePrimary, primaryRequest(primaryHandle));
    await both.same(frame(PCR_Read, { pcrSelectionIn: [] }));
    await both.runSame(Clear, { authHandle: LOCKOUT });
    await both.same(frame(PCR_Read, { pcrSelectionIn: [] }));
    await both.same(frame(GetCapability, { capability: TPM_CAP.HANDLES, property: 0x80000000, propertyCount: 10 }));
    const { ours, theirs } = await both.run(ReadClock, {});
    for (const { currentTime } of [ours, theirs]) {
      assert.deepEqual([currentTime.clockInfo.resetCount, currentTime.clockInfo.restartCount, currentTime.clockInfo.safe], [0, 0, 1]);
      assert.ok(currentTime.clockInfo.clock < 1000n);
    }
    await both.sameProperties([
      TPM_PT.PERMANENT,
      TPM_PT.STARTUP_CLEAR,
      TPM_PT.LOCKOUT_INTERVAL,
      TPM_PT.MAX_AUTH_FAIL,
      TPM_PT.LOCKOUT_RECOVERY,
    ]);
    await both.restart();
    await both.sameProperties();
  });

  it('Clear, ChangeEPS and ChangePPS change the seeds that they are for', async () => {
    const { execute } = await openTestTpm({ limits: { loadedObjects: 3 } });
    const names = async (): Promise<string[]> => {
      const found: string[] = [];
      for (const hierarchy of [OWNER, ENDORSEMENT, PLATFORM]) {
        found.push((await createPrimary(execute, hierarchy)).toString('hex'));
      }
      await flushAll(execute);
      return found;
    };
    const initial = await names();
    assert.deepEqual(await names(), initial);
    await run(execute, Clear, { authHandle: PLATFORM });
    const cleared = await names();
    assert.notEqual(cleared[0], initial[0]);
    assert.deepEqual(cleared.slice(1), initial.slice(1));
    await run(execute, ChangeEPS, { authHandle: PLATFORM });
    const changed = await names();
    assert.equal(changed[0], cleared[0]);
    assert.notEqual(changed[1], cleared[1]);
    assert.equal(changed[2], cleared[2]);
    await run(execute, ChangePPS, { authHandle: PLATFORM });
    assert.notEqual((await names())[2], changed[2]);
  });

  it('ChangeEPS and ChangePPS reset what belongs to the hierarchy', async () => {
    const policy = { authPolicy: Buffer.alloc(32, 5), hashAlg: TPM_ALG.SHA256 } as const;
    for (const authHandle of [ENDORSEMENT, PLATFORM]) await both.runSame(SetPrimaryPolicy, { authHandle, ...policy });
    await both.runSame(HierarchyChangeAuth, { authHandle: ENDORSEMENT, newAuth: Buffer.from('e') });
    await both.runSame(HierarchyControl, { authHandle: PLATFORM, enable: ENDORSEMENT, state: 0 });
    await both.code(ChangeEPS, { authHandle: OWNER });
    await both.runSame(ChangeEPS, { authHandle: PLATFORM });
    await both.sameProperties();
    await both.runSame(ChangePPS, { authHandle: PLATFORM });
    await both.sameProperties();
  });
});

async function flushAll(execute: Execute): Promise<void> {
  for (const handle of [0x80000000, 0x80000001, 0x80000002]) await execute(rawFrame(0x165, [], Buffer.from(handle.toString(16), 'hex')));
}
