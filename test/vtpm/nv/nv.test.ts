import assert from 'node:assert/strict';
import {
  HierarchyControl,
  NV_DefineSpace,
  NV_Increment,
  NV_Read,
  NV_ReadLock,
  NV_ReadPublic,
  NV_UndefineSpace,
  NV_Write,
  PolicySecret,
  Shutdown,
  StartAuthSession,
  Startup,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_NT, TPM_RH, TPM_SE, TPM_SU, TPMA_NV, TPMA_NV_NT_SHIFT, TPMA_SESSION } from '../../../src/tpm/constants/index.js';
import { nameOfNvPublic } from '../../../src/tpm/name.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import type { TPMS_NV_PUBLIC } from '../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../support/differential.js';
import { codeOf, type Execute, expectCode, frame, none, password, run } from '../../support/frames.js';
import { flush } from '../../support/primary-keys.js';
import { aesCfb, ClientSession, execWithSessions, runWithSessions } from '../../support/sessions.js';
import { openTestTpm } from '../../support/vtpm.js';

const nvIndex = 0x01500000;
const own = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | TPMA_NV.NO_DA;
const typed = (type: number, attributes = own): number => (attributes | (type << TPMA_NV_NT_SHIFT)) >>> 0;

function publicOf(attributes: number, dataSize = 8, index = nvIndex): TPMS_NV_PUBLIC {
  return { nvIndex: index, nameAlg: TPM_ALG.SHA256, attributes: attributes >>> 0, authPolicy: none, dataSize };
}

async function define(execute: Execute, publicInfo: TPMS_NV_PUBLIC, auth = ''): Promise<void> {
  const authHandle = (publicInfo.attributes & TPMA_NV.PLATFORMCREATE) === 0 ? TPM_RH.OWNER : TPM_RH.PLATFORM;
  await run(execute, NV_DefineSpace, { authHandle, auth: Buffer.from(auth), publicInfo });
}

const index = { authHandle: nvIndex, nvIndex };
const count = async (execute: Execute): Promise<bigint> =>
  (await run(execute, NV_Read, { ...index, size: 8, offset: 0 })).data.readBigUInt64BE();

describe('NV indices', () => {
  let pair: Differential;
  let sides: readonly Execute[];
  beforeEach(async () => {
    pair = await startDifferential();
    sides = [pair.ours.execute, pair.theirs.execute];
  });
  afterEach(() => pair.stop());

  it('take encrypted data in HMAC sessions of their own', async () => {
    for (const execute of sides) {
      const publicInfo = publicOf(typed(TPM_NT.ORDINARY), 300);
      const names = new Map([[nvIndex, nameOfNvPublic(publicInfo)]]);
      const written = new Map([[nvIndex, nameOfNvPublic({ ...publicInfo, attributes: publicInfo.attributes | TPMA_NV.WRITTEN })]]);
      const session = await ClientSession.start(execute, { symmetric: aesCfb });
      const twoWay = TPMA_SESSION.continueSession | TPMA_SESSION.decrypt;
      const auth = Buffer.from('secret');
      await runWithSessions(execute, NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth, publicInfo }, [{ session, attributes: twoWay }]);
      const data = Buffer.alloc(300, 7);
      await runWithSessions(execute, NV_Write, { ...index, data, offset: 0 }, [{ session, auth, attributes: twoWay }], names);
      const attributes = TPMA_SESSION.continueSession | TPMA_SESSION.encrypt;
      const read = await runWithSessions(execute, NV_Read, { ...index, size: 300, offset: 0 }, [{ session, auth, attributes }], written);
      assert.deepEqual(read.data, data);
      const wrong = await execWithSessions(execute, NV_Read, { ...index, size: 300, offset: 0 }, [{ session, auth: 'wrong' }], written);
      assert.equal(wrong.code, 0x9a2);
      await flush(execute, session.handle);
    }
  });

  for (const [name, type] of [
    ['PIN Pass', TPM_NT.PIN_PASS],
    ['PIN Fail', TPM_NT.PIN_FAIL],
  ] as const) {
    for (const orderly of [0, TPMA_NV.ORDERLY]) {
      it(`count the uses of a ${orderly === 0 ? '' : 'orderly '}${name}`, async () => {
        const attributes = typed(type, TPMA_NV.NO_DA | TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | orderly);
        const results = await Promise.all(
          sides.map(async (execute) => {
            const found: unknown[] = [];
            await define(execute, publicOf(attributes), 'pin');
            const request = {
              tpmKey: TPM_RH.NULL,
              bind: TPM_RH.NULL,
              nonceCaller: Buffer.alloc(16),
              encryptedSalt: none,
              sessionType: TPM_SE.POLICY,
            };
            const symmetric = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
            const { sessionHandle: policySession } = await run(execute, StartAuthSession, {
              ...request,
              symmetric,
              authHash: TPM_ALG.SHA256,
            });
            const attempt = async (pin: string): Promise<void> => {
              const values = { authHandle: nvIndex, policySession, nonceTPM: none, cpHashA: none, policyRef: none, expiration: 0 };
              found.push(codeOf(await execute(frame(PolicySecret, values, [password(pin)]))));
              const read = await execute(frame(NV_Read, { authHandle: TPM_RH.OWNER, nvIndex, size: 8, offset: 0 }));
              found.push(codeOf(read) === 0 ? read.subarray(14, 24).toString('hex') : codeOf(read));
            };
            await attempt('pin');
            await run(execute, NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data: Buffer.of(0, 0, 0, 0, 0, 0, 0, 3), offset: 0 });
            for (const pin of ['pin', 'bad', 'pin', 'bad', 'bad', 'pin', 'bad', 'pin', 'pin']) await attempt(pin);
            await run(execute, NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data: Buffer.alloc(4), offset: 0 });
            await attempt('pin');
            return found;
          }),
        );
        assert.deepEqual(results[0], results[1]);
      });
    }
  }

  it('start a new counter above every counter that was deleted', async () => {
    const results = await Promise.all(
      sides.map(async (execute) => {
        const counts: bigint[] = [];
        for (let round = 0; round < 3; round++) {
          await define(execute, publicOf(typed(TPM_NT.COUNTER)));
          for (let i = 0; i < 5; i++) await run(execute, NV_Increment, index);
          counts.push(await count(execute));
          await run(execute, NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex });
        }
        return counts;
      }),
    );
    assert.deepEqual(results, [
      [5n, 10n, 15n],
      [5n, 10n, 15n],
    ]);
  });

  it('never give an orderly counter a value twice', async () => {
    for (const execute of sides) {
      await define(execute, publicOf(typed(TPM_NT.COUNTER, own | TPMA_NV.ORDERLY)));
      for (let i = 0; i < 10; i++) await run(execute, NV_Increment, index);
    }
    for (const shutdownType of [undefined, TPM_SU.CLEAR, undefined, undefined]) {
      if (shutdownType !== undefined) await pair.code(Shutdown, { shutdownType });
      const before = await count(pair.ours.execute);
      await pair.powerCycle();
      await pair.code(Startup, { startupType: TPM_SU.CLEAR });
      for (let i = 0; i < 300; i++) await pair.code(NV_Increment, index);
      const [ours = 0n, theirs] = await Promise.all(sides.map(count));
      assert.equal(ours, theirs);
      assert.ok(ours >= before + 300n);
    }
  });

  it('are hidden where their hierarchy is disabled', async () => {
    const platform = publicOf(typed(TPM_NT.ORDINARY, own | TPMA_NV.PLATFORMCREATE | TPMA_NV.PPREAD | TPMA_NV.PPWRITE), 8, nvIndex + 1);
    for (const execute of sides) {
      await define(execute, publicOf(own));
      await define(execute, platform);
    }
    const control = (enable: number, state: 0 | 1): Promise<number> =>
      pair.code(HierarchyControl, { authHandle: TPM_RH.PLATFORM, enable, state });
    await control(TPM_RH.OWNER, 0);
    assert.equal(await pair.code(NV_ReadPublic, { nvIndex }), 0x18b);
    assert.equal(await pair.code(NV_ReadPublic, { nvIndex: nvIndex + 1 }), 0);
    await control(TPM_RH.OWNER, 1);
    await control(TPM_RH.PLATFORM_NV, 0);
    assert.equal(await pair.code(NV_ReadPublic, { nvIndex }), 0);
    assert.equal(await pair.code(NV_ReadPublic, { nvIndex: nvIndex + 1 }), 0x18b);
    assert.equal(
      await pair.code(NV_DefineSpace, { authHandle: TPM_RH.PLATFORM, auth: none, publicInfo: { ...platform, nvIndex: nvIndex + 2 } }),
      0x185,
    );
    assert.equal(await pair.code(NV_DefineSpace, { authHandle: TPM_RH.PLATFORM, auth: none, publicInfo: platform }), 0x185);
  });
});

describe('NV memory', () => {
  it('is durable', async () => {
    const test = await openTestTpm();
    await define(test.execute, publicOf(own, 4), 'auth');
    await run(test.execute, NV_Write, { ...index, data: Buffer.from('data'), offset: 0 }, [password('auth')]);
    const again = await test.reopen();
    const { data } = await run(again.execute, NV_Read, { ...index, size: 4, offset: 0 }, [password('auth')]);
    assert.equal(data.toString(), 'data');
    await run(again.execute, NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex });
    await expectCode((await again.reopen()).execute, 0x18b, NV_ReadPublic, { nvIndex });
  });

  it('is not written for orderly data', async () => {
    const test = await openTestTpm();
    await define(test.execute, publicOf(own | TPMA_NV.ORDERLY));
    await run(test.execute, NV_Write, { ...index, data: Buffer.alloc(8, 1), offset: 0 });
    const { commits } = test.records;
    for (let i = 0; i < 50; i++) await run(test.execute, NV_Write, { ...index, data: Buffer.alloc(8, i), offset: 0 });
    assert.ok(test.records.commits - commits <= 1);
  });

  it('keeps locks of orderly indices that were set after the shutdown', async () => {
    const test = await openTestTpm();
    await define(test.execute, publicOf(own | TPMA_NV.ORDERLY | TPMA_NV.READ_STCLEAR));
    await run(test.execute, NV_Write, { ...index, data: Buffer.alloc(8), offset: 0 });
    await run(test.execute, Shutdown, { shutdownType: TPM_SU.STATE });
    await run(test.execute, NV_ReadLock, index);
    await test.powerCycle();
    await run(test.execute, Startup, { startupType: TPM_SU.STATE });
    await expectCode(test.execute, TPM_RC.NV_LOCKED, NV_Read, { ...index, size: 8, offset: 0 });
  });

  it('has limits', async () => {
    const { execute } = await openTestTpm({ limits: { nvIndices: 3, nvBytes: 100 } });
    await define(execute, publicOf(own, 60, nvIndex));
    await define(execute, publicOf(own, 40, nvIndex + 1));
    await expectCode(execute, TPM_RC.NV_SPACE, NV_DefineSpace, {
      authHandle: TPM_RH.OWNER,
      auth: none,
      publicInfo: publicOf(own, 1, nvIndex + 2),
    });
    await define(execute, publicOf(own, 0, nvIndex + 2));
    await expectCode(execute, TPM_RC.NV_SPACE, NV_DefineSpace, {
      authHandle: TPM_RH.OWNER,
      auth: none,
      publicInfo: publicOf(own, 0, nvIndex + 3),
    });
  });

  it('keeps its own copy of what a guest wrote', async () => {
    const { execute } = await openTestTpm();
    await define(execute, publicOf(own));
    const request = frame(NV_Write, { ...index, data: Buffer.alloc(8, 1), offset: 0 });
    await execute(request);
    request.fill(9);
    const { data } = await run(execute, NV_Read, { ...index, size: 8, offset: 0 });
    data.fill(3);
    assert.deepEqual((await run(execute, NV_Read, { ...index, size: 8, offset: 0 })).data, Buffer.alloc(8, 1));
  });
});
