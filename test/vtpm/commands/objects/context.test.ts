import assert from 'node:assert/strict';
import {
  ContextLoad,
  ContextSave,
  FlushContext,
  GetRandom,
  HashSequenceStart,
  HierarchyControl,
  HMAC_Start,
  PolicyAuthValue,
  PolicyCommandCode,
  PolicyCpHash,
  PolicyGetDigest,
  PolicyLocality,
  ReadPublic,
  SequenceComplete,
  SequenceUpdate,
  Shutdown,
  Sign,
  StartAuthSession,
  Startup,
} from '../../../../src/tpm/commands/index.js';
import {
  CONTEXT_OVERHEAD,
  TPM_ALG,
  TPM_CC,
  TPM_RH,
  TPM_SE,
  TPM_ST,
  TPM_SU,
  TPMA_OBJECT,
  TPMA_SESSION,
} from '../../../../src/tpm/constants/index.js';
import { hash } from '../../../../src/tpm/hash.js';
import { TPM_RC, TpmError } from '../../../../src/tpm/response-code.js';
import type { TPMS_CONTEXT } from '../../../../src/tpm/structures/index.js';
import { defaultLimits } from '../../../../src/vtpm/limits.js';
import { CONTEXT_GAP_MAX, freshPolicy, Sessions } from '../../../../src/vtpm/state/sessions.js';
import type { Session } from '../../../../src/vtpm/state/session.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { codeOf, type Execute, expectCode, frame, none, password, run } from '../../../support/frames.js';
import { createPrimary, flush } from '../../../support/primary-keys.js';
import { aesCfb, ClientSession, runWithSessions } from '../../../support/sessions.js';
import { openTestTpm } from '../../../support/vtpm.js';
import { asParent, eccTemplate, hmacTemplate, rsaTemplate } from '../../../support/templates.js';

const noCipher = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const start = {
  tpmKey: TPM_RH.NULL,
  bind: TPM_RH.NULL,
  nonceCaller: Buffer.alloc(16, 1),
  encryptedSalt: none,
  sessionType: TPM_SE.HMAC,
  symmetric: noCipher,
  authHash: TPM_ALG.SHA256,
} as const;

/** A copy of the context that is the command's own: responses are views. */
async function save(execute: Execute, saveHandle: number): Promise<TPMS_CONTEXT> {
  const { context } = await run(execute, ContextSave, { saveHandle });
  return { ...context, contextBlob: Buffer.from(context.contextBlob) };
}

const load = async (execute: Execute, context: TPMS_CONTEXT): Promise<number> =>
  (await run(execute, ContextLoad, { context })).loadedHandle;
const loadCode = async (execute: Execute, context: TPMS_CONTEXT): Promise<number> => codeOf(await execute(frame(ContextLoad, { context })));

/** Contexts that are none, made of a good one. */
function* forgeries(context: TPMS_CONTEXT): Generator<TPMS_CONTEXT> {
  const { contextBlob } = context;
  for (const at of [4, contextBlob.length >> 1, contextBlob.length - 1]) {
    const changed = Buffer.from(contextBlob);
    changed[at] = (changed[at] ?? 0) ^ 1;
    yield { ...context, contextBlob: changed };
  }
  yield { ...context, sequence: context.sequence + 1n };
  yield { ...context, savedHandle: context.savedHandle === 0x80000000 ? 0x80000002 : 0x80000000 };
  yield { ...context, hierarchy: context.hierarchy === TPM_RH.NULL ? TPM_RH.OWNER : TPM_RH.NULL };
  yield { ...context, contextBlob: contextBlob.subarray(0, contextBlob.length - 1) };
}

describe('saved contexts', () => {
  let pair: Differential;
  let sides: readonly Execute[];
  before(async () => {
    pair = await startDifferential();
    sides = [pair.ours.execute, pair.theirs.execute];
  });
  after(() => pair.stop());

  it('bring objects back', async () => {
    for (const execute of sides) {
      for (const template of [rsaTemplate(), eccTemplate(), hmacTemplate(), asParent(eccTemplate())]) {
        const key = await createPrimary(execute, template, { auth: 'key' });
        const before = await run(execute, ReadPublic, { objectHandle: key.handle });
        const context = await save(execute, key.handle);
        assert.equal(context.savedHandle, 0x80000000);
        assert.equal(context.hierarchy, TPM_RH.OWNER);
        await flush(execute, key.handle);
        const handle = await load(execute, context);
        assert.deepEqual(await run(execute, ReadPublic, { objectHandle: handle }), before);
        if ((template.objectAttributes & TPMA_OBJECT.sign) !== 0 && template.type !== TPM_ALG.KEYEDHASH) {
          const inScheme = {
            scheme: template.type === TPM_ALG.RSA ? TPM_ALG.RSASSA : TPM_ALG.ECDSA,
            details: { hashAlg: TPM_ALG.SHA256 },
          } as const;
          const validation = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none };
          await run(execute, Sign, { keyHandle: handle, digest: Buffer.alloc(32, 1), inScheme, validation }, [password('key')]);
        }
        await flush(execute, handle);
      }
    }
  });
  it('of objects can be loaded more than once', async () => {
    for (const execute of sides) {
      const key = await createPrimary(execute, eccTemplate());
      const context = await save(execute, key.handle);
      const handles = [key.handle, await load(execute, context), await load(execute, context)];
      assert.deepEqual(handles, [0x80000000, 0x80000001, 0x80000002]);
      await flush(execute, ...handles);
    }
  });

  it('have handle and hierarchy as in swtpm', async () => {
    for (const hierarchy of [TPM_RH.OWNER, TPM_RH.NULL, TPM_RH.ENDORSEMENT, TPM_RH.PLATFORM]) {
      for (const stClear of [0, TPMA_OBJECT.stClear]) {
        const headers = await Promise.all(
          sides.map(async (execute) => {
            const template = eccTemplate();
            const key = await createPrimary(execute, { ...template, objectAttributes: template.objectAttributes | stClear }, { hierarchy });
            const { savedHandle, hierarchy: of } = await save(execute, key.handle);
            await flush(execute, key.handle);
            return { savedHandle, of };
          }),
        );
        assert.deepEqual(headers[0], headers[1]);
      }
    }
  });

  it('bring sequences back in the middle', async () => {
    const data = Buffer.alloc(100, 5);
    for (const execute of sides) {
      for (const hashAlg of [TPM_ALG.SHA1, TPM_ALG.SHA256, TPM_ALG.SHA384, TPM_ALG.SHA512, TPM_ALG.NULL] as const) {
        const { sequenceHandle } = await run(execute, HashSequenceStart, { auth: Buffer.from('seq'), hashAlg });
        await run(execute, SequenceUpdate, { sequenceHandle, buffer: data }, [password('seq')]);
        const context = await save(execute, sequenceHandle);
        assert.equal(context.savedHandle, 0x80000001);
        assert.equal(context.hierarchy, TPM_RH.NULL);
        await flush(execute, sequenceHandle);
        const handle = await load(execute, context);
        if (hashAlg === TPM_ALG.NULL) {
          await flush(execute, handle);
          continue;
        }
        const { result } = await run(execute, SequenceComplete, { sequenceHandle: handle, buffer: data, hierarchy: TPM_RH.NULL }, [
          password('seq'),
        ]);
        assert.deepEqual(result, hash(hashAlg, data, data));
      }
    }
  });

  it('bring HMAC sequences back', async () => {
    const results = await Promise.all(
      sides.map(async (execute) => {
        const template = hmacTemplate();
        const objectAttributes = template.objectAttributes & ~TPMA_OBJECT.sensitiveDataOrigin;
        const key = await createPrimary(execute, { ...template, objectAttributes }, { data: Buffer.from('the key') });
        const { sequenceHandle } = await run(execute, HMAC_Start, { handle: key.handle, auth: none, hashAlg: TPM_ALG.NULL });
        await run(execute, SequenceUpdate, { sequenceHandle, buffer: Buffer.from('abc') });
        const context = await save(execute, sequenceHandle);
        await flush(execute, sequenceHandle, key.handle);
        const handle = await load(execute, context);
        return (await run(execute, SequenceComplete, { sequenceHandle: handle, buffer: none, hierarchy: TPM_RH.NULL })).result.toString(
          'hex',
        );
      }),
    );
    assert.equal(results[0], results[1]);
  });

  it('bring HMAC sessions back, once', async () => {
    for (const execute of sides) {
      const session = await ClientSession.start(execute, { symmetric: aesCfb, bind: { handle: TPM_RH.OWNER, auth: none } });
      const attributes = TPMA_SESSION.continueSession | TPMA_SESSION.encrypt;
      await runWithSessions(execute, GetRandom, { bytesRequested: 8 }, [{ session, attributes }]);
      const old = await save(execute, session.handle);
      assert.equal(old.savedHandle, session.handle);
      assert.equal(old.hierarchy, TPM_RH.NULL);
      await expectCode(execute, 0x910, ContextSave, { saveHandle: session.handle });
      assert.equal(await load(execute, old), session.handle);
      await runWithSessions(execute, GetRandom, { bytesRequested: 8 }, [{ session, attributes }]);
      assert.equal(await loadCode(execute, old), 0x1cb);
      const newer = await save(execute, session.handle);
      assert.equal(newer.sequence > old.sequence, true);
      assert.equal(await loadCode(execute, old), 0x1cb);
      assert.equal(await load(execute, newer), session.handle);
      await flush(execute, session.handle);
      assert.equal(await loadCode(execute, newer), 0x1cb);
    }
  });

  it('bring policy sessions back with all that was asserted', async () => {
    for (const execute of sides) {
      const { sessionHandle: policySession } = await run(execute, StartAuthSession, { ...start, sessionType: TPM_SE.POLICY });
      await run(execute, PolicyAuthValue, { policySession });
      await run(execute, PolicyLocality, { policySession, locality: 3 });
      await run(execute, PolicyCpHash, { policySession, cpHashA: Buffer.alloc(32, 1) });
      await run(execute, PolicyCommandCode, { policySession, code: TPM_CC.NV_Read });
      const { policyDigest } = await run(execute, PolicyGetDigest, { policySession });
      const context = await save(execute, policySession);
      await load(execute, context);
      assert.deepEqual((await run(execute, PolicyGetDigest, { policySession })).policyDigest, policyDigest);
      await expectCode(execute, 0x151, PolicyCpHash, { policySession, cpHashA: Buffer.alloc(32, 2) });
      await expectCode(execute, 0x1cd, PolicyLocality, { policySession, locality: 4 });
      await expectCode(execute, 0x1c4, PolicyCommandCode, { policySession, code: TPM_CC.NV_Write });
      await flush(execute, policySession);
    }
  });

  it('that are forged are refused', async () => {
    for (const execute of sides) {
      const key = await createPrimary(execute, eccTemplate());
      const context = await save(execute, key.handle);
      await flush(execute, key.handle);
      for (const forgery of forgeries(context)) assert.equal(await loadCode(execute, forgery), 0x1df);
      const { sessionHandle } = await run(execute, StartAuthSession, start);
      const session = await save(execute, sessionHandle);
      for (const forgery of forgeries(session)) assert.equal(await loadCode(execute, forgery), 0x1df);
      await flush(execute, await load(execute, session));
    }
    const { execute } = pair.ours;
    for (const size of [0, 1, 27]) {
      assert.equal(
        await loadCode(execute, { sequence: 1n, savedHandle: 0x80000000, hierarchy: TPM_RH.OWNER, contextBlob: Buffer.alloc(size) }),
        0x1d5,
      );
    }
  });

  it('with a wrong handle are refused as by swtpm', async () => {
    for (const savedHandle of [0x80000003, 0x81000000, 0x40000001, 0x01000000]) {
      await pair.sameCode(
        frame(ContextLoad, { context: { sequence: 1n, savedHandle, hierarchy: TPM_RH.OWNER, contextBlob: Buffer.alloc(80) } }),
      );
    }
    for (const saveHandle of [0x80000000, 0x02000000, 0x03000000, 0x81000000, 0x01000000, TPM_RH.OWNER]) {
      assert.notEqual(await pair.code(ContextSave, { saveHandle }), 0);
    }
  });

  it('of a disabled hierarchy are refused', async () => {
    for (const execute of sides) {
      const key = await createPrimary(execute, eccTemplate(), { hierarchy: TPM_RH.ENDORSEMENT });
      const context = await save(execute, key.handle);
      await run(execute, HierarchyControl, { authHandle: TPM_RH.ENDORSEMENT, enable: TPM_RH.ENDORSEMENT, state: 0 });
      assert.equal(await loadCode(execute, context), 0x1c5);
      await run(execute, HierarchyControl, { authHandle: TPM_RH.PLATFORM, enable: TPM_RH.ENDORSEMENT, state: 1 });
      await flush(execute, await load(execute, context));
    }
  });

  it('survive what swtpm lets them survive', async () => {
    const cycles = [
      [undefined, TPM_SU.CLEAR],
      [TPM_SU.CLEAR, TPM_SU.CLEAR],
      [TPM_SU.STATE, TPM_SU.CLEAR],
      [TPM_SU.STATE, TPM_SU.STATE],
    ] as const;
    for (const [shutdownType, startupType] of cycles) {
      const contexts = await Promise.all(
        sides.map(async (execute) => {
          const template = eccTemplate();
          const found: TPMS_CONTEXT[] = [];
          for (const attribute of [0, TPMA_OBJECT.stClear]) {
            for (const hierarchy of [TPM_RH.OWNER, TPM_RH.NULL]) {
              const key = await createPrimary(
                execute,
                { ...template, objectAttributes: template.objectAttributes | attribute },
                { hierarchy },
              );
              found.push(await save(execute, key.handle));
              await flush(execute, key.handle);
            }
          }
          const { sequenceHandle } = await run(execute, HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 });
          found.push(await save(execute, sequenceHandle));
          for (const sessionType of [TPM_SE.HMAC, TPM_SE.POLICY] as const) {
            const { sessionHandle } = await run(execute, StartAuthSession, { ...start, sessionType });
            found.push(await save(execute, sessionHandle));
          }
          if (shutdownType !== undefined) await run(execute, Shutdown, { shutdownType });
          return found;
        }),
      );
      await pair.powerCycle();
      await pair.code(Startup, { startupType });
      const codes: number[][] = [];
      for (const [i, execute] of sides.entries()) {
        const side: number[] = [];
        for (const context of contexts[i] ?? []) {
          const code = await loadCode(execute, context);
          side.push(code);
          if (code === 0) await flush(execute, context.savedHandle >>> 24 === 0x80 ? 0x80000000 : context.savedHandle);
        }
        codes.push(side);
      }
      assert.deepEqual(codes[0], codes[1], `shutdown ${String(shutdownType)}, startup ${startupType.toString()}`);
    }
  });
});

describe('the gap between saved sessions', () => {
  const session = (index: number): Session => ({
    handle: 0x02000000 + index,
    isPolicy: false,
    isTrial: false,
    authHash: TPM_ALG.SHA256,
    symmetric: noCipher,
    sessionKey: none,
    nonceTPM: none,
    boundEntity: undefined,
    daBound: false,
    lockoutBound: false,
    auditDigest: undefined,
    startTime: 0n,
    epoch: 0,
    policy: freshPolicy(32),
  });
  const refused = (action: () => unknown): void => {
    assert.throws(action, (error) => error instanceof TpmError && error.code === TPM_RC.CONTEXT_GAP);
  };

  it('is limited', () => {
    const sessions = new Sessions({ ...defaultLimits, loadedSessions: 2 });
    const oldest = sessions.add(session);
    sessions.markSaved(oldest);
    const other = sessions.add(session);
    for (let i = 0; i < CONTEXT_GAP_MAX; i++) {
      sessions.markSaved(other);
      sessions.reload(other);
    }
    refused(() => sessions.markSaved(other));
    refused(() => sessions.add(session));
    sessions.reload(oldest);
    sessions.markSaved(other);
    sessions.add(session);
  });

  it('leaves the last place to the oldest session', () => {
    const sessions = new Sessions({ ...defaultLimits, loadedSessions: 2 });
    const all = [sessions.add(session), sessions.add(session)];
    for (const one of all) sessions.markSaved(one);
    const newest = sessions.add(session);
    sessions.contextCounter += BigInt(CONTEXT_GAP_MAX);
    refused(() => {
      sessions.reload(all[1] ?? newest);
    });
    sessions.reload(all[0] ?? newest);
  });
});

describe('FlushContext', () => {
  let pair: Differential;
  before(async () => {
    pair = await startDifferential();
  });
  after(() => pair.stop());

  it('flushes what swtpm flushes', async () => {
    for (const flushHandle of [0x80000000, 0x02000000, 0x03000000, 0x81000000, TPM_RH.OWNER, 0x01500000]) {
      assert.notEqual(await pair.code(FlushContext, { flushHandle }), 0);
    }
    await pair.run(StartAuthSession, start);
    assert.equal(await pair.code(FlushContext, { flushHandle: 0x03000000 }), 0);
    for (const execute of [pair.ours.execute, pair.theirs.execute]) {
      await save(execute, (await run(execute, StartAuthSession, { ...start, sessionType: TPM_SE.POLICY })).sessionHandle);
    }
    assert.equal(await pair.code(FlushContext, { flushHandle: 0x02000000 }), 0);
    assert.equal(await pair.code(FlushContext, { flushHandle: 0x03000000 }), 0x1cb);
  });

  it('takes a context that is padded to the largest size, as Windows does, and no other padding', async () => {
    const { execute, tpm } = await openTestTpm();
    const { sessionHandle } = await run(execute, StartAuthSession, start);
    for (const bufferSize of [4096, 3968]) {
      tpm.bufferSize = bufferSize;
      const bare = frame(ContextLoad, { context: await save(execute, sessionHandle) });
      const padded = (size: number): Buffer => {
        const bytes = Buffer.concat([bare, Buffer.alloc(size - (bare.length - 10))]);
        bytes.writeUInt32BE(bytes.length, 2);
        return bytes;
      };
      const largest = bufferSize - CONTEXT_OVERHEAD;
      assert.equal(codeOf(await execute(padded(largest - 1))), TPM_RC.SIZE);
      assert.equal(codeOf(await execute(padded(largest))), TPM_RC.SUCCESS);
    }
  });
});
