// What a policy session is good for, on a vTPM and on swtpm: an NV index whose policy is what was asserted.
import assert from 'node:assert/strict';
import {
  NV_ChangeAuth,
  NV_DefineSpace,
  NV_Read,
  NV_ReadPublic,
  NV_UndefineSpace,
  NV_UndefineSpaceSpecial,
  NV_Write,
  PCR_Extend,
  PolicyAuthorizeNV,
  PolicyAuthValue,
  PolicyCommandCode,
  PolicyCounterTimer,
  PolicyCpHash,
  PolicyGetDigest,
  PolicyLocality,
  PolicyNameHash,
  PolicyNV,
  PolicyNvWritten,
  PolicyOR,
  PolicyPassword,
  PolicyPCR,
  PolicyPhysicalPresence,
  PolicyRestart,
  PolicySecret,
  PolicyTemplate,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_EO, TPM_RH, TPM_SE, TPMA_NV, TPMA_SESSION } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import { nameOfNvPublic } from '../../../src/tpm/name.js';
import { encodeParameters } from '../../../src/tpm/command.js';
import { cpHash } from '../../../src/tpm/session-crypto.js';
import { type Differential, startDifferential } from '../../support/differential.js';
import { codeOf, type Execute, frame, none, run } from '../../support/frames.js';
import { flush } from '../../support/primary-keys.js';
import { ClientSession, execWithSessions, type SessionOptions, type SessionUse } from '../../support/sessions.js';

const alg = TPM_ALG.SHA256;
const nvIndex = 0x01500000;
const helper = 0x01500001;
const auth = Buffer.from('index');
const data = Buffer.from('12345678');
const attributes = TPMA_NV.POLICYREAD | TPMA_NV.OWNERWRITE | TPMA_NV.NO_DA;
const noPcr = { hash: TPM_ALG.SHA256, pcrSelect: Buffer.of(0, 0, 1) } as const;
const publicOf = (authPolicy: Buffer) => ({ nvIndex, nameAlg: alg, attributes, authPolicy, dataSize: 8 }) as const;
const writtenName = (authPolicy: Buffer): Buffer => nameOfNvPublic({ ...publicOf(authPolicy), attributes: attributes | TPMA_NV.WRITTEN });
const readValues = { authHandle: nvIndex, nvIndex, size: 8, offset: 0 };

/** One way to use a policy. */
interface Case {
  readonly name: string;
  /** What is asserted, in a trial session and in the session that is used. */
  readonly assert: (execute: Execute, policySession: number) => Promise<unknown>;
  /** Happens between assertion and use. */
  readonly meanwhile?: (execute: Execute, policySession: number, index: number) => Promise<unknown>;
  /** How the session is started and used. */
  readonly session?: SessionOptions;
  readonly use?: Partial<SessionUse>;
  readonly locality?: number;
  /** Response code of the NV_Read. */
  readonly code: number;
}

const needsAuth = (execute: Execute, policySession: number): Promise<unknown> => run(execute, PolicyAuthValue, { policySession });
const password = (execute: Execute, policySession: number): Promise<unknown> => run(execute, PolicyPassword, { policySession });
const readOnly = (execute: Execute, policySession: number): Promise<unknown> =>
  run(execute, PolicyCommandCode, { policySession, code: TPM_CC.NV_Read });
const noAuth = { withoutAuth: true };

const cases: readonly Case[] = [
  { name: 'nothing', assert: () => Promise.resolve(), use: noAuth, code: 0x12f },
  { name: 'the command', assert: readOnly, use: noAuth, code: 0 },
  {
    name: 'another command',
    assert: (e, policySession) => run(e, PolicyCommandCode, { policySession, code: TPM_CC.NV_Write }),
    use: noAuth,
    code: 0x9a4,
  },
  { name: 'the authValue', assert: needsAuth, use: { auth }, code: 0 },
  {
    name: 'the authValue, salted by binding',
    assert: needsAuth,
    use: { auth },
    session: { bind: { handle: TPM_RH.OWNER, auth: none } },
    code: 0,
  },
  { name: 'the authValue, but wrong', assert: needsAuth, use: { auth: 'wrong' }, code: 0x9a2 },
  { name: 'the password', assert: password, use: { auth, asPassword: true }, code: 0 },
  { name: 'the password, but wrong', assert: password, use: { auth: 'wrong', asPassword: true }, code: 0x9a2 },
  {
    name: 'nothing after a restart',
    assert: readOnly,
    meanwhile: (e, sessionHandle) => run(e, PolicyRestart, { sessionHandle }),
    use: noAuth,
    code: 0x99d,
  },
  {
    name: 'more than the policy',
    assert: readOnly,
    meanwhile: (e, policySession) => run(e, PolicyAuthValue, { policySession }),
    use: { auth },
    code: 0x99d,
  },
  {
    name: 'its locality',
    assert: (e, policySession) => run(e, PolicyLocality, { policySession, locality: 0x04 }),
    use: noAuth,
    locality: 2,
    code: 0,
  },
  {
    name: 'another locality',
    assert: (e, policySession) => run(e, PolicyLocality, { policySession, locality: 0x04 }),
    use: noAuth,
    locality: 1,
    code: 0x907,
  },
  {
    name: 'an extended locality',
    assert: (e, policySession) => run(e, PolicyLocality, { policySession, locality: 0x24 }),
    use: noAuth,
    locality: 2,
    code: 0x907,
  },
  { name: 'physical presence', assert: (e, policySession) => run(e, PolicyPhysicalPresence, { policySession }), use: noAuth, code: 0x990 },
  {
    name: 'that the index is written',
    assert: (e, policySession) => run(e, PolicyNvWritten, { policySession, writtenSet: 1 }),
    use: noAuth,
    code: 0,
  },
  {
    name: 'that the index is not written',
    assert: (e, policySession) => run(e, PolicyNvWritten, { policySession, writtenSet: 0 }),
    use: noAuth,
    code: 0x99d,
  },
  {
    name: 'a PCR',
    assert: (e, policySession) => run(e, PolicyPCR, { policySession, pcrDigest: none, pcrs: [noPcr] }),
    use: noAuth,
    code: 0,
  },
  {
    name: 'a PCR that changes',
    assert: (e, policySession) => run(e, PolicyPCR, { policySession, pcrDigest: none, pcrs: [noPcr] }),
    meanwhile: (e) => run(e, PCR_Extend, { pcrHandle: 7, digests: [{ hashAlg: alg, digest: Buffer.alloc(32) }] }),
    use: noAuth,
    code: 0x128,
  },
  {
    name: 'a PCR while one changes that does not count',
    assert: (e, policySession) => run(e, PolicyPCR, { policySession, pcrDigest: none, pcrs: [noPcr] }),
    meanwhile: (e) => run(e, PCR_Extend, { pcrHandle: 23, digests: [{ hashAlg: alg, digest: Buffer.alloc(32) }] }),
    use: noAuth,
    code: 0,
  },
  {
    name: 'one of two',
    assert: async (e, policySession) => {
      await readOnly(e, policySession);
      const { policyDigest } = await run(e, PolicyGetDigest, { policySession });
      await run(e, PolicyOR, { policySession, pHashList: [Buffer.alloc(32), Buffer.from(policyDigest)] });
    },
    use: noAuth,
    code: 0,
  },
  {
    name: 'what an index holds',
    assert: (e, policySession) =>
      run(e, PolicyNV, {
        authHandle: helper,
        nvIndex: helper,
        policySession,
        operandB: Buffer.of(0, 0x0b),
        offset: 0,
        operation: TPM_EO.EQ,
      }),
    use: noAuth,
    code: 0,
  },
  {
    name: 'the time',
    assert: (e, policySession) =>
      run(e, PolicyCounterTimer, { policySession, operandB: Buffer.alloc(8, 0xff), offset: 0, operation: TPM_EO.UNSIGNED_LT }),
    use: noAuth,
    code: 0,
  },
  { name: 'a secret', assert: (e, policySession) => run(e, PolicySecret, secret(policySession, 0)), use: noAuth, code: 0 },
  { name: 'a secret, in time', assert: (e, policySession) => run(e, PolicySecret, secret(policySession, 1_000_000)), use: noAuth, code: 0 },
  {
    name: 'a template, for what is none',
    assert: (e, policySession) => run(e, PolicyTemplate, { policySession, templateHash: hash(alg) }),
    use: noAuth,
    code: 0x99d,
  },
  {
    name: 'a cpHash that is another',
    assert: (e, policySession) => run(e, PolicyCpHash, { policySession, cpHashA: hash(alg) }),
    use: noAuth,
    code: 0x99d,
  },
  {
    name: 'a nameHash that is another',
    assert: (e, policySession) => run(e, PolicyNameHash, { policySession, nameHash: hash(alg) }),
    use: noAuth,
    code: 0x99d,
  },
  { name: 'the wrong hash algorithm', assert: readOnly, session: { authHash: TPM_ALG.SHA1 }, use: noAuth, code: 0x99d },
];

function secret(policySession: number, expiration: number) {
  return { authHandle: TPM_RH.OWNER, policySession, nonceTPM: none, cpHashA: none, policyRef: Buffer.from('ref'), expiration };
}

describe('a policy session', () => {
  let pair: Differential;
  before(async () => {
    pair = await startDifferential();
    const publicInfo = {
      nvIndex: helper,
      nameAlg: alg,
      attributes: TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA,
      authPolicy: none,
      dataSize: 34,
    };
    await pair.code(NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
    await pair.code(NV_Write, { authHandle: helper, nvIndex: helper, data: Buffer.concat([Buffer.of(0, 0x0b), hash(alg)]), offset: 0 });
  });
  after(() => pair.stop());

  async function trialDigest(execute: Execute, assertion: Case['assert']): Promise<Buffer> {
    const trial = await ClientSession.start(execute, { type: TPM_SE.TRIAL });
    await assertion(execute, trial.handle);
    const { policyDigest } = await run(execute, PolicyGetDigest, { policySession: trial.handle });
    const copy = Buffer.from(policyDigest);
    await flush(execute, trial.handle);
    return copy;
  }

  async function define(execute: Execute, authPolicy: Buffer): Promise<void> {
    await run(execute, NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth, publicInfo: publicOf(authPolicy) });
    await run(execute, NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data, offset: 0 });
  }

  for (const { name, assert: assertion, meanwhile, session: options, use, locality, code } of cases) {
    it(`with ${name} is as good as in swtpm`, async () => {
      for (const execute of [pair.ours.execute, pair.theirs.execute]) {
        const authPolicy = name === 'nothing' ? none : await trialDigest(execute, assertion);
        await define(execute, authPolicy);
        const session = await ClientSession.start(execute, { type: TPM_SE.POLICY, ...options });
        await assertion(execute, session.handle);
        await meanwhile?.(execute, session.handle, nvIndex);
        const names = new Map([[nvIndex, writtenName(authPolicy)]]);
        const result = await execWithSessions(execute, NV_Read, readValues, [{ session, ...use }], names, locality);
        assert.equal(result.code, code, execute === pair.ours.execute ? 'ours' : 'swtpm');
        if (code === 0) {
          const again = await execWithSessions(execute, NV_Read, readValues, [{ session, ...use }], names, locality);
          assert.equal(again.code, 0x99d, 'the policy starts over');
        }
        await flush(execute, session.handle);
        await run(execute, NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex });
      }
    });
  }

  it('may be bound to the parameters or the Names of a command', async () => {
    for (const execute of [pair.ours.execute, pair.theirs.execute]) {
      for (const bind of ['cpHash', 'nameHash'] as const) {
        // The index's Name contains its policy: the digest comes in by PolicyAuthorizeNV, whose policy is known before.
        const policy = await trialDigest(execute, (e, policySession) =>
          run(e, PolicyAuthorizeNV, { authHandle: helper, nvIndex: helper, policySession }),
        );
        await define(execute, policy);
        const name = writtenName(policy);
        const names = new Map([[nvIndex, name]]);
        const parameters = encodeParameters(NV_Read.inList, readValues);
        const apply = (e: Execute, policySession: number): Promise<unknown> =>
          bind === 'cpHash'
            ? run(e, PolicyCpHash, { policySession, cpHashA: cpHash(alg, NV_Read.code, [name, name], parameters) })
            : run(e, PolicyNameHash, { policySession, nameHash: hash(alg, name, name) });
        const approved = await trialDigest(execute, apply);
        await run(execute, NV_Write, {
          authHandle: helper,
          nvIndex: helper,
          data: Buffer.concat([Buffer.of(0, 0x0b), approved]),
          offset: 0,
        });
        for (const [values, code] of [
          [readValues, 0],
          [{ ...readValues, size: 4 }, bind === 'cpHash' ? 0x99d : 0],
        ] as const) {
          const session = await ClientSession.start(execute, { type: TPM_SE.POLICY });
          await apply(execute, session.handle);
          await run(execute, PolicyAuthorizeNV, { authHandle: helper, nvIndex: helper, policySession: session.handle });
          const result = await execWithSessions(execute, NV_Read, values, [{ session, ...noAuth }], names);
          assert.equal(result.code, code);
          await flush(execute, session.handle);
        }
        await run(execute, NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex });
      }
    }
  });

  it('changes the authValue of an index', async () => {
    for (const execute of [pair.ours.execute, pair.theirs.execute]) {
      const only = async (e: Execute, policySession: number): Promise<void> => {
        await run(e, PolicyCommandCode, { policySession, code: TPM_CC.NV_ChangeAuth });
        await run(e, PolicyAuthValue, { policySession });
      };
      const policy = await trialDigest(execute, only);
      await define(execute, policy);
      const names = new Map([[nvIndex, writtenName(policy)]]);
      const session = await ClientSession.start(execute, { type: TPM_SE.POLICY });
      await only(execute, session.handle);
      const tooLong = await execWithSessions(execute, NV_ChangeAuth, { nvIndex, newAuth: Buffer.alloc(33, 1) }, [{ session, auth }], names);
      assert.equal(tooLong.code, 0x1d5);
      const wrong = await execWithSessions(
        execute,
        NV_ChangeAuth,
        { nvIndex, newAuth: Buffer.from('new') },
        [{ session, auth: 'wrong' }],
        names,
      );
      assert.equal(wrong.code, 0x9a2);
      assert.equal(codeOf(await execute(frame(NV_ChangeAuth, { nvIndex, newAuth: none }))), 0x124, 'no password for ADMIN');
      // The response's HMAC has the new authValue in its key: the same as the old, so that one key serves both.
      const newAuth = Buffer.concat([auth, Buffer.alloc(3)]);
      assert.equal((await execWithSessions(execute, NV_ChangeAuth, { nvIndex, newAuth }, [{ session, auth }], names)).code, 0);
      await only(execute, session.handle);
      const other = execWithSessions(execute, NV_ChangeAuth, { nvIndex, newAuth: Buffer.from('new') }, [{ session, auth }], names);
      await assert.rejects(other, /response HMAC/);
      await flush(execute, session.handle);
      await run(execute, NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex });
    }
  });

  it('undefines an index that only its policy may undefine', async () => {
    for (const execute of [pair.ours.execute, pair.theirs.execute]) {
      for (const withAuth of [false, true]) {
        const only = async (e: Execute, policySession: number): Promise<void> => {
          await run(e, PolicyCommandCode, { policySession, code: TPM_CC.NV_UndefineSpaceSpecial });
          if (withAuth) await run(e, PolicyAuthValue, { policySession });
        };
        const authPolicy = await trialDigest(execute, only);
        const special = TPMA_NV.POLICY_DELETE | TPMA_NV.PLATFORMCREATE | TPMA_NV.PPREAD | TPMA_NV.PPWRITE | TPMA_NV.NO_DA;
        const publicInfo = { nvIndex, nameAlg: alg, attributes: special, authPolicy, dataSize: 8 };
        await run(execute, NV_DefineSpace, { authHandle: TPM_RH.PLATFORM, auth: withAuth ? auth : none, publicInfo });
        assert.equal(codeOf(await execute(frame(NV_UndefineSpace, { authHandle: TPM_RH.PLATFORM, nvIndex }))), 0x282);
        const names = new Map([[nvIndex, nameOfNvPublic(publicInfo)]]);
        const session = await ClientSession.start(execute, { type: TPM_SE.POLICY });
        const values = { nvIndex, platform: TPM_RH.PLATFORM };
        assert.equal((await execWithSessions(execute, NV_UndefineSpaceSpecial, values, [{ session, ...noAuth }, {}], names)).code, 0x99d);
        await only(execute, session.handle);
        // With an authValue the response's HMAC key is empty, for the index is gone: it is checked only by its length.
        const use: SessionUse = withAuth ? { session, auth, attributes: TPMA_SESSION.continueSession } : { session, ...noAuth };
        const done = execWithSessions(execute, NV_UndefineSpaceSpecial, values, [use, {}], names);
        if (withAuth) await assert.rejects(done, /response HMAC/);
        else assert.equal((await done).code, 0);
        assert.equal(codeOf(await execute(frame(NV_ReadPublic, { nvIndex }))), 0x18b);
        await flush(execute, session.handle);
      }
    }
  });
});
