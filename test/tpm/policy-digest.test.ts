import assert from 'node:assert/strict';
import {
  FlushContext,
  LoadExternal,
  NV_DefineSpace,
  NV_ReadPublic,
  PolicyAuthorize,
  PolicyAuthorizeNV,
  PolicyAuthValue,
  PolicyCommandCode,
  PolicyCounterTimer,
  PolicyCpHash,
  PolicyDuplicationSelect,
  PolicyGetDigest,
  PolicyLocality,
  PolicyNameHash,
  PolicyNV,
  PolicyNvWritten,
  PolicyOR,
  PolicyPassword,
  PolicyPCR,
  PolicyPhysicalPresence,
  PolicySecret,
  PolicySigned,
  PolicyTemplate,
  StartAuthSession,
} from '../../src/tpm/commands/index.js';
import type { Request } from '../../src/tpm/command.js';
import { TPM_ALG, TPM_CC, TPM_EO, TPM_RH, TPM_SE, TPM_ST, TPMA_NV } from '../../src/tpm/constants/index.js';
import { digestSize } from '../../src/tpm/hash.js';
import { nameOfHandle, nameOfPublic } from '../../src/tpm/name.js';
import { policyDigest, type PolicyTerms } from '../../src/tpm/policy-digest.js';
import { type AnyCommand, type Execute, none, run } from '../support/frames.js';
import { FrameSwtpm } from '../support/differential.js';
import { eccSigner } from '../support/signers.js';

const HASHES = [TPM_ALG.SHA1, TPM_ALG.SHA256, TPM_ALG.SHA384, TPM_ALG.SHA512] as const;
const INDEX = 0x01500000;
const noCipher = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const ref = Buffer.from('reference');
const name = Buffer.from(`000b${'5a'.repeat(32)}`, 'hex');
const otherName = Buffer.from(`000b${'a5'.repeat(32)}`, 'hex');
const pcrs = [
  { hash: TPM_ALG.SHA256, pcrSelect: Buffer.of(0x81, 0, 1) },
  { hash: TPM_ALG.SHA1, pcrSelect: Buffer.of(0, 2, 0) },
];
const operand = { operandB: Buffer.of(1, 2), offset: 3, operation: TPM_EO.UNSIGNED_GT };
const signer = eccSigner();

/** A command that asserts something: how it is sent, and what the digest is after it and PolicyAuthValue. */
interface Assertion {
  readonly name: string;
  readonly send: (execute: Execute, policySession: number, alg: number) => Promise<unknown>;
  readonly digest: (alg: number) => Buffer;
}

/** One whose terms are all parameters. */
function plain<C extends AnyCommand>(
  of: C,
  name: string,
  valuesOf: (alg: number) => PolicyTerms<C> & Omit<Request<C>, 'policySession'>,
): Assertion {
  return {
    name,
    send: (execute, policySession, alg) => run(execute, of, { ...valuesOf(alg), policySession } as unknown as Request<C>),
    digest: (alg) => digestOf(alg, of, valuesOf(alg)),
  };
}

/** Digest of PolicyAuthValue and another command. */
function digestOf<C extends AnyCommand>(alg: number, of: C, terms: PolicyTerms<C>): Buffer {
  return policyDigest(
    [
      [PolicyAuthValue, {}],
      [of, terms],
    ] as never,
    alg,
  );
}

const digest = (alg: number, value: number): Buffer => Buffer.alloc(digestSize(alg), value);
const verified = { tag: TPM_ST.VERIFIED, hierarchy: TPM_RH.OWNER, digest: none } as const;

const assertions: readonly Assertion[] = [
  plain(PolicyPCR, 'PolicyPCR', (alg) => ({ pcrs, pcrDigest: digest(alg, 7) })),
  plain(PolicyOR, 'PolicyOR', (alg) => ({ pHashList: [digest(alg, 1), digest(alg, 2), digest(alg, 3)] })),
  plain(PolicyLocality, 'PolicyLocality', () => ({ locality: 0x14 })),
  plain(PolicyCounterTimer, 'PolicyCounterTimer', () => operand),
  plain(PolicyCommandCode, 'PolicyCommandCode', () => ({ code: TPM_CC.Duplicate })),
  plain(PolicyPhysicalPresence, 'PolicyPhysicalPresence', () => ({})),
  plain(PolicyCpHash, 'PolicyCpHash', (alg) => ({ cpHashA: digest(alg, 9) })),
  plain(PolicyNameHash, 'PolicyNameHash', (alg) => ({ nameHash: digest(alg, 9) })),
  plain(PolicyDuplicationSelect, 'PolicyDuplicationSelect with the object', () => ({
    objectName: name,
    newParentName: otherName,
    includeObject: 1,
  })),
  plain(PolicyDuplicationSelect, 'PolicyDuplicationSelect of any object', () => ({
    objectName: name,
    newParentName: otherName,
    includeObject: 0,
  })),
  plain(PolicyAuthorize, 'PolicyAuthorize', (alg) => ({
    approvedPolicy: digest(alg, 4),
    policyRef: ref,
    keySign: name,
    checkTicket: verified,
  })),
  plain(PolicyAuthorize, 'PolicyAuthorize without policyRef', (alg) => ({
    approvedPolicy: digest(alg, 4),
    policyRef: none,
    keySign: name,
    checkTicket: verified,
  })),
  plain(PolicyAuthValue, 'PolicyAuthValue', () => ({})),
  plain(PolicyPassword, 'PolicyPassword', () => ({})),
  plain(PolicyNvWritten, 'PolicyNvWritten', () => ({ writtenSet: 1 })),
  plain(PolicyTemplate, 'PolicyTemplate', (alg) => ({ templateHash: digest(alg, 9) })),
  {
    name: 'PolicySecret',
    send: (execute, policySession) =>
      run(execute, PolicySecret, { authHandle: TPM_RH.OWNER, policySession, nonceTPM: none, cpHashA: none, policyRef: ref, expiration: 0 }),
    digest: (alg) => digestOf(alg, PolicySecret, { authHandle: nameOfHandle(TPM_RH.OWNER), policyRef: ref }),
  },
  {
    name: 'PolicySigned',
    send: async (execute, policySession) => {
      const { objectHandle } = await run(execute, LoadExternal, { inPrivate: null, inPublic: signer.publicArea, hierarchy: TPM_RH.OWNER });
      const auth = signer.sign(Buffer.alloc(4));
      const terms = { nonceTPM: none, cpHashA: none, policyRef: none, expiration: 0, auth };
      await run(execute, PolicySigned, { authObject: objectHandle, policySession, ...terms });
      await run(execute, FlushContext, { flushHandle: objectHandle });
    },
    digest: (alg) => digestOf(alg, PolicySigned, { authObject: nameOfPublic(signer.publicArea), policyRef: none }),
  },
];

describe('the digest of a policy', () => {
  let tpm: FrameSwtpm;
  let nvName: Buffer;
  before(async () => {
    tpm = await FrameSwtpm.start();
    const attributes = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE;
    const publicInfo = { nvIndex: INDEX, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: none, dataSize: 8 };
    await run(tpm.execute, NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
    nvName = Buffer.from((await run(tpm.execute, NV_ReadPublic, { nvIndex: INDEX })).nvName);
  });
  after(() => tpm.stop());

  /** What a trial session of the real TPM makes of some commands. */
  async function trial(authHash: (typeof HASHES)[number], ...commands: readonly Assertion['send'][]): Promise<string> {
    const request = {
      tpmKey: TPM_RH.NULL,
      bind: TPM_RH.NULL,
      nonceCaller: Buffer.alloc(16),
      encryptedSalt: none,
      sessionType: TPM_SE.TRIAL,
      symmetric: noCipher,
      authHash,
    };
    const { sessionHandle } = await run(tpm.execute, StartAuthSession, request);
    for (const send of commands) await send(tpm.execute, sessionHandle, authHash);
    const { policyDigest: found } = await run(tpm.execute, PolicyGetDigest, { policySession: sessionHandle });
    await run(tpm.execute, FlushContext, { flushHandle: sessionHandle });
    return found.toString('hex');
  }

  const authValue: Assertion['send'] = (execute, policySession) => run(execute, PolicyAuthValue, { policySession });

  for (const assertion of assertions) {
    it(`after ${assertion.name} is a TPM's`, async () => {
      for (const alg of HASHES) {
        assert.equal(await trial(alg, authValue, assertion.send), assertion.digest(alg).toString('hex'), `hash 0x${alg.toString(16)}`);
      }
    });
  }

  it("after PolicyNV and PolicyAuthorizeNV is a TPM's", async () => {
    for (const alg of HASHES) {
      const handles = { authHandle: TPM_RH.OWNER, nvIndex: INDEX };
      const policyNv = await trial(alg, authValue, (execute, policySession) =>
        run(execute, PolicyNV, { ...handles, policySession, ...operand }),
      );
      assert.equal(policyNv, digestOf(alg, PolicyNV, { nvIndex: nvName, ...operand }).toString('hex'));
      const authorizeNv = await trial(alg, authValue, (execute, policySession) =>
        run(execute, PolicyAuthorizeNV, { ...handles, policySession }),
      );
      assert.equal(authorizeNv, digestOf(alg, PolicyAuthorizeNV, { nvIndex: nvName }).toString('hex'));
    }
  });

  it('is that of all commands in their order', async () => {
    const locality: Assertion['send'] = (execute, policySession) => run(execute, PolicyLocality, { policySession, locality: 1 });
    const calculated = policyDigest([
      [PolicyLocality, { locality: 1 }],
      [PolicyAuthValue, {}],
      [PolicyLocality, { locality: 1 }],
    ]);
    assert.equal(await trial(TPM_ALG.SHA256, locality, authValue, locality), calculated.toString('hex'));
    assert.equal(await trial(TPM_ALG.SHA256), policyDigest([]).toString('hex'));
  });

  it('does not come from commands that assert nothing', () => {
    assert.throws(() => policyDigest([[PolicyGetDigest, {}]]), /PolicyGetDigest does not extend a policy digest/);
  });
});
