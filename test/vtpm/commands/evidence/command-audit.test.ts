// Command audit, side by side with swtpm.
import assert from 'node:assert/strict';
import type { Request } from '../../../../src/tpm/command.js';
import {
  Clear,
  GetCapability,
  GetCommandAuditDigest,
  GetRandom,
  PCR_Extend,
  PCR_Read,
  SetCommandCodeAuditStatus,
  Shutdown,
  Startup,
} from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_CC, TPM_PT, TPM_RH, TPM_ST, TPM_SU } from '../../../../src/tpm/constants/index.js';
import { atParameter, TPM_RC } from '../../../../src/tpm/response-code.js';
import { decode } from '../../../../src/tpm/schema.js';
import { TPMS_ATTEST } from '../../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { frame, none, run } from '../../../support/frames.js';
import { openTestTpm } from '../../../support/vtpm.js';

const { OWNER, PLATFORM, ENDORSEMENT, NULL } = TPM_RH;
const { SHA256, SHA384 } = TPM_ALG;
const status: Request<typeof SetCommandCodeAuditStatus> = { auth: OWNER, auditAlg: TPM_ALG.NULL, setList: [], clearList: [] };

describe('command audit', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });

  /** Both audit the same commands and have the same digest and counter. */
  async function sameAudit(): Promise<void> {
    await both.same(frame(GetCapability, { capability: TPM_CAP.AUDIT_COMMANDS, property: 0, propertyCount: 1000 }));
    await both.same(frame(GetCapability, { capability: TPM_CAP.TPM_PROPERTIES, property: TPM_PT.AUDIT_COUNTER_0, propertyCount: 2 }));
    const inScheme = { scheme: TPM_ALG.NULL, details: null } as const;
    const request = { privacyHandle: ENDORSEMENT, signHandle: NULL, qualifyingData: none, inScheme };
    const { ours, theirs } = await both.run(GetCommandAuditDigest, request);
    const [mine, other] = [ours, theirs].map(({ auditInfo }) => {
      const attest = decode(TPMS_ATTEST, auditInfo);
      assert.ok(attest.type === TPM_ST.ATTEST_COMMAND_AUDIT);
      return attest.attested;
    });
    assert.deepEqual(mine, other);
  }

  it('audits what it is told', async () => {
    await sameAudit();
    for (const setList of [[TPM_CC.PCR_Read, TPM_CC.PCR_Extend], [TPM_CC.Shutdown, 0x11e, 0xffffffff], [TPM_CC.GetRandom], []]) {
      await both.runSame(SetCommandCodeAuditStatus, { ...status, setList });
      await sameAudit();
    }
    await both.runSame(PCR_Read, { pcrSelectionIn: [] });
    await both.code(PCR_Extend, { pcrHandle: 17, digests: [] });
    await both.runSame(PCR_Extend, { pcrHandle: 7, digests: [{ hashAlg: SHA256, digest: Buffer.alloc(32) }] });
    await sameAudit();
    await both.runSame(SetCommandCodeAuditStatus, {
      ...status,
      clearList: [TPM_CC.PCR_Extend, TPM_CC.SetCommandCodeAuditStatus, TPM_CC.Hash],
    });
    await sameAudit();
    await both.code(SetCommandCodeAuditStatus, { ...status, auth: ENDORSEMENT });
  });

  it('changes the algorithm, but not together with the commands', async () => {
    assert.equal(
      await both.code(SetCommandCodeAuditStatus, { ...status, auditAlg: SHA256, setList: [TPM_CC.Hash] }),
      atParameter(TPM_RC.VALUE, 1),
    );
    await both.runSame(SetCommandCodeAuditStatus, { ...status, auth: PLATFORM, auditAlg: SHA256 });
    await sameAudit();
    await both.runSame(SetCommandCodeAuditStatus, { ...status, auditAlg: SHA256, setList: [TPM_CC.Hash] });
    await both.runSame(SetCommandCodeAuditStatus, { ...status, auditAlg: SHA384 });
    await both.runSame(PCR_Read, { pcrSelectionIn: [] });
    await sameAudit();
  });

  it('survives shutdown and reset as it should', async () => {
    for (const [shutdownType, startupType] of [
      [TPM_SU.STATE, TPM_SU.STATE],
      [TPM_SU.STATE, TPM_SU.CLEAR],
      [TPM_SU.CLEAR, TPM_SU.CLEAR],
    ] as const) {
      await both.runSame(PCR_Read, { pcrSelectionIn: [] });
      await both.runSame(Shutdown, { shutdownType });
      await both.powerCycle();
      assert.equal(await both.code(Startup, { startupType }), 0);
      await sameAudit();
    }
    await both.runSame(Clear, { authHandle: PLATFORM });
    await sameAudit();
  });

  it('is durable, the digest apart', async () => {
    const first = await openTestTpm();
    await run(first.execute, SetCommandCodeAuditStatus, { ...status, setList: [TPM_CC.GetRandom] });
    const second = await first.reopen();
    const ask = { capability: TPM_CAP.AUDIT_COMMANDS, property: 0, propertyCount: 10 };
    const { capabilityData } = await run(second.execute, GetCapability, ask);
    assert.deepEqual(capabilityData.data, [TPM_CC.SetCommandCodeAuditStatus, TPM_CC.GetRandom]);
    await run(second.execute, GetRandom, { bytesRequested: 1 });
  });
});
