// PCR commands, side by side with swtpm.
import assert from 'node:assert/strict';
import {
  GetCapability,
  PCR_Allocate,
  PCR_Event,
  PCR_Extend,
  PCR_Read,
  PCR_Reset,
  PCR_SetAuthPolicy,
  PCR_SetAuthValue,
  PolicyAuthValue,
  PolicyGetDigest,
  Shutdown,
  Startup,
} from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_RH, TPM_SE, TPM_SU, TPMA_SESSION } from '../../../../src/tpm/constants/index.js';
import { hash } from '../../../../src/tpm/hash.js';
import { atParameter, TPM_RC } from '../../../../src/tpm/response-code.js';
import type { TPML_DIGEST_VALUES, TPML_PCR_SELECTION, TPMS_PCR_SELECTION } from '../../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { frame, none, password, rawFrame, run } from '../../../support/frames.js';
import { ClientSession, execWithSessions, runWithSessions } from '../../../support/sessions.js';

const { SHA1, SHA256, SHA384, SHA512 } = TPM_ALG;
const allBanks = [SHA1, SHA256, SHA384, SHA512] as const;
const select = (bank: TPMS_PCR_SELECTION['hash'], hex: string): TPMS_PCR_SELECTION => ({ hash: bank, pcrSelect: Buffer.from(hex, 'hex') });
const valuesOf = (text: string, banks: readonly TPMS_PCR_SELECTION['hash'][]): TPML_DIGEST_VALUES =>
  banks.map((bank) => ({ hashAlg: bank, digest: hash(bank, Buffer.from(text)) }));

describe('PCR commands', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });

  /** Both have the same PCRs, update counter included. */
  async function samePcrs(): Promise<void> {
    for (const bank of allBanks) {
      for (const mask of ['ff0000', '00ff00', '0000ff']) await both.same(frame(PCR_Read, { pcrSelectionIn: [select(bank, mask)] }));
    }
  }

  it('PCR_Read gives at most eight digests and says which', async () => {
    const selections: TPML_PCR_SELECTION[] = [
      [],
      [select(SHA256, '000000')],
      [select(SHA256, 'ffffff')],
      [select(SHA1, '070000'), select(SHA256, '0f0000'), select(SHA384, 'ff0000')],
      [select(SHA1, 'ff0000'), select(SHA256, '010000')],
      [select(SHA1, '7f0000'), select(SHA256, '000000'), select(SHA512, '000080'), select(SHA384, '000001')],
      [select(SHA256, '010000'), select(SHA256, '010000')],
    ];
    for (const pcrSelectionIn of selections) await both.same(frame(PCR_Read, { pcrSelectionIn }));
    for (const hex of ['00000005', '0000000100100300000000', '00000001000b02ffff', '00000001000b04ffffffff', '00000001000b0300']) {
      await both.sameCode(rawFrame(PCR_Read.code, [], Buffer.from(hex, 'hex')));
    }
  });

  it('PCR_Extend: every PCR from every locality, counting changes alike', async () => {
    for (let locality = 0; locality <= 4; locality++) {
      for (let pcrHandle = 0; pcrHandle < 24; pcrHandle++) {
        await both.code(PCR_Extend, { pcrHandle, digests: valuesOf(locality.toString(), [SHA256, SHA1]) }, undefined, locality);
      }
    }
    await both.code(PCR_Extend, { pcrHandle: 3, digests: [] });
    await both.code(PCR_Extend, { pcrHandle: 3, digests: valuesOf('twice', [SHA256, SHA256]) });
    await both.code(PCR_Extend, { pcrHandle: TPM_RH.NULL, digests: valuesOf('x', [SHA256]) });
    await both.code(PCR_Extend, { pcrHandle: 24, digests: valuesOf('x', [SHA256]) });
    await both.code(PCR_Extend, { pcrHandle: 3, digests: valuesOf('x', [SHA256]) }, [password('wrong')]);
    await both.code(PCR_Extend, { pcrHandle: 3, digests: valuesOf('x', [SHA256]) }, []);
    await samePcrs();
  });

  it('PCR_Event and PCR_Reset', async () => {
    await both.runSame(PCR_Event, { pcrHandle: 8, eventData: Buffer.from('event') });
    await both.runSame(PCR_Event, { pcrHandle: TPM_RH.NULL, eventData: none });
    assert.equal(await both.code(PCR_Event, { pcrHandle: 17, eventData: none }), TPM_RC.LOCALITY);
    for (let locality = 0; locality <= 4; locality++) {
      for (let pcrHandle = 0; pcrHandle < 24; pcrHandle++) await both.code(PCR_Reset, { pcrHandle }, undefined, locality);
    }
    await samePcrs();
  });

  it('an authorization value for PCRs 20 to 22', async () => {
    await both.code(PCR_SetAuthValue, { pcrHandle: 1, auth: none });
    await both.code(PCR_SetAuthValue, { pcrHandle: 20, auth: Buffer.from('pcr\0\0') });
    for (const pcrHandle of [20, 21, 22, 23]) {
      for (const auth of ['', 'pcr', 'pcr\0'])
        await both.code(PCR_Extend, { pcrHandle, digests: valuesOf('a', [SHA256]) }, [password(auth)], 2);
    }
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      const session = await ClientSession.start(execute);
      const request = { pcrHandle: 21, digests: valuesOf('hmac', [SHA256]) };
      assert.equal((await execWithSessions(execute, PCR_Extend, request, [{ session, auth: 'pcr' }], new Map(), 2)).code, 0);
      const wrong = await execWithSessions(execute, PCR_Extend, request, [{ session, auth: 'other' }], new Map(), 2);
      assert.equal(wrong.code, TPM_RC.BAD_AUTH | 0x900);
      await session.end(execute);
    }
    await samePcrs();
  });

  it('an authorization policy for PCRs 20 to 22', async () => {
    const policies: Buffer[] = [];
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      const policy = await ClientSession.start(execute, { type: TPM_SE.TRIAL });
      await run(execute, PolicyAuthValue, { policySession: policy.handle }, []);
      policies.push((await run(execute, PolicyGetDigest, { policySession: policy.handle }, [])).policyDigest);
      await policy.end(execute);
    }
    const [authPolicy = none] = policies;
    assert.deepEqual(authPolicy, policies[1]);
    await both.code(PCR_SetAuthPolicy, { authHandle: TPM_RH.PLATFORM, authPolicy, hashAlg: SHA256, pcrNum: 1 });
    await both.code(PCR_SetAuthPolicy, { authHandle: TPM_RH.PLATFORM, authPolicy, hashAlg: SHA384, pcrNum: 20 });
    await both.code(PCR_SetAuthPolicy, { authHandle: TPM_RH.OWNER, authPolicy, hashAlg: SHA256, pcrNum: 20 });
    await both.runSame(PCR_SetAuthPolicy, { authHandle: TPM_RH.PLATFORM, authPolicy, hashAlg: SHA256, pcrNum: 20 });
    const codes: number[][] = [];
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      const mine: number[] = [];
      for (const pcrHandle of [16, 21]) {
        const session = await ClientSession.start(execute, { type: TPM_SE.POLICY });
        await run(execute, PolicyAuthValue, { policySession: session.handle }, []);
        const use = { session, auth: 'pcr', attributes: 0 };
        const response = await execWithSessions(execute, PCR_Extend, { pcrHandle, digests: valuesOf('p', [SHA256]) }, [use], new Map(), 2);
        mine.push(response.code);
        if (response.code !== 0) await session.end(execute);
      }
      codes.push(mine);
    }
    assert.deepEqual(codes[0], codes[1]);
    assert.equal(codes[0]?.[1], 0);
    await samePcrs();
  });

  it('an audited extend in an HMAC session', async () => {
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      const session = await ClientSession.start(execute);
      const attributes = TPMA_SESSION.continueSession | TPMA_SESSION.audit;
      await runWithSessions(execute, PCR_Extend, { pcrHandle: 9, digests: valuesOf('h', [SHA256]) }, [{ session, attributes }]);
      await runWithSessions(execute, PCR_Read, { pcrSelectionIn: [select(SHA256, '000200')] }, [{ session, attributes }]);
    }
    await samePcrs();
  });

  it('PCR_Allocate takes whole banks in and out of use at the next reset', async () => {
    const allocate = (pcrAllocation: TPML_PCR_SELECTION): Promise<unknown> =>
      both.runSame(PCR_Allocate, { authHandle: TPM_RH.PLATFORM, pcrAllocation });
    assert.equal(
      await both.code(PCR_Allocate, { authHandle: TPM_RH.PLATFORM, pcrAllocation: allBanks.map((bank) => select(bank, '000000')) }),
      TPM_RC.PCR,
    );
    await both.code(PCR_Allocate, { authHandle: TPM_RH.OWNER, pcrAllocation: [] });
    await allocate([select(SHA1, '000000'), select(SHA512, 'ffffff'), select(SHA512, '000000')]);
    await samePcrs();
    await both.same(frame(GetCapability, { capability: TPM_CAP.PCRS, property: 0, propertyCount: 1 }));
    assert.equal(await both.code(Shutdown, { shutdownType: TPM_SU.STATE }), atParameter(TPM_RC.TYPE, 1));
    await both.runSame(Shutdown, { shutdownType: TPM_SU.CLEAR });
    await both.powerCycle();
    await both.code(Startup, { startupType: TPM_SU.CLEAR });
    await both.same(frame(GetCapability, { capability: TPM_CAP.PCRS, property: 0, propertyCount: 1 }));
    await both.runSame(PCR_Extend, { pcrHandle: 1, digests: valuesOf('all', allBanks) });
    await both.runSame(PCR_Event, { pcrHandle: 2, eventData: Buffer.from('event') });
    await both.runSame(PCR_Reset, { pcrHandle: 16 });
    await samePcrs();
    await both.runSame(Shutdown, { shutdownType: TPM_SU.STATE });
    await both.powerCycle();
    await both.code(Startup, { startupType: TPM_SU.STATE });
    await samePcrs();
  });

  it('PCR_Allocate takes a part of a bank', async () => {
    const allocation = [select(SHA1, '800707'), select(SHA256, 'ffffff'), select(SHA384, '000000'), select(SHA512, '010000')];
    await both.runSame(PCR_Allocate, { authHandle: TPM_RH.PLATFORM, pcrAllocation: allocation });
    await both.runSame(Shutdown, { shutdownType: TPM_SU.CLEAR });
    await both.powerCycle();
    await both.code(Startup, { startupType: TPM_SU.CLEAR });
    await both.same(frame(GetCapability, { capability: TPM_CAP.PCRS, property: 0, propertyCount: 1 }));
    for (const pcrHandle of [0, 1, 7, 8, 16]) await both.runSame(PCR_Extend, { pcrHandle, digests: valuesOf('part', allBanks) });
    for (const bank of allBanks) {
      await both.runSame(PCR_Read, { pcrSelectionIn: [select(bank, 'ff0000')] });
      await both.runSame(PCR_Read, { pcrSelectionIn: [select(bank, '00ff01')] });
    }
  });
});
