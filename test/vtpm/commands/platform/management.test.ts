// PP_Commands and SetAlgorithmSet, and what says that they are there, side by side with swtpm.
import assert from 'node:assert/strict';
import { GetCapability, HierarchyChangeAuth, PP_Commands, SetAlgorithmSet } from '../../../../src/tpm/commands/index.js';
import { TPM_CAP, TPM_CC, TPM_PT, TPM_RH, TPMA_CC } from '../../../../src/tpm/constants/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { frame, none, parse, password, rawFrame, run } from '../../../support/frames.js';
import { openTestTpm } from '../../../support/vtpm.js';

describe('management functions', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });
  const lists = { setList: [TPM_CC.Clear, TPM_CC.CreatePrimary], clearList: [TPM_CC.ClockSet] };

  it('PP_Commands needs a presence that nobody has', async () => {
    await both.code(PP_Commands, { auth: TPM_RH.PLATFORM, ...lists });
    await both.code(PP_Commands, { auth: TPM_RH.PLATFORM, setList: [], clearList: [] });
    await both.code(PP_Commands, { auth: TPM_RH.PLATFORM, ...lists }, [password('wrong')]);
    await both.code(PP_Commands, { auth: TPM_RH.PLATFORM, ...lists }, []);
    await both.code(PP_Commands, { auth: TPM_RH.OWNER, ...lists });
    await both.sameCode(rawFrame(PP_Commands.code, [TPM_RH.PLATFORM], Buffer.from('00000001', 'hex'), [password()]));
    for (const property of [0, TPM_CC.PP_Commands, TPM_CC.PP_Commands + 1, 0x20000000]) {
      for (const propertyCount of [0, 1, 10])
        await both.same(frame(GetCapability, { capability: TPM_CAP.PP_COMMANDS, property, propertyCount }));
    }
  });

  it('SetAlgorithmSet is kept and reported', async () => {
    const reported = frame(GetCapability, { capability: TPM_CAP.TPM_PROPERTIES, property: TPM_PT.ALGORITHM_SET, propertyCount: 1 });
    await both.same(reported);
    await both.code(SetAlgorithmSet, { authHandle: TPM_RH.OWNER, algorithmSet: 7 });
    await both.code(SetAlgorithmSet, { authHandle: TPM_RH.PLATFORM, algorithmSet: 7 }, [password('wrong')]);
    await both.same(reported);
    await both.code(SetAlgorithmSet, { authHandle: TPM_RH.PLATFORM, algorithmSet: 0x12345678 });
    await both.same(reported);
    await both.code(HierarchyChangeAuth, { authHandle: TPM_RH.PLATFORM, newAuth: Buffer.from('p') });
    await both.code(SetAlgorithmSet, { authHandle: TPM_RH.PLATFORM, algorithmSet: 1 });
    await both.code(SetAlgorithmSet, { authHandle: TPM_RH.PLATFORM, algorithmSet: 1 }, [password('p')]);
    await both.same(reported);
  });

  it('the algorithm set is durable', async () => {
    const first = await openTestTpm();
    await run(first.execute, SetAlgorithmSet, { authHandle: TPM_RH.PLATFORM, algorithmSet: 3 });
    const second = await first.reopen();
    const request = { capability: TPM_CAP.TPM_PROPERTIES, property: TPM_PT.ALGORITHM_SET, propertyCount: 1 } as const;
    const { capabilityData } = await run(second.execute, GetCapability, request);
    assert.deepEqual(capabilityData.data, [{ property: TPM_PT.ALGORITHM_SET, value: 3 }]);
  });

  it('both serve the same commands, curves and algorithms', async () => {
    for (const capability of [TPM_CAP.ECC_CURVES, TPM_CAP.ALGS]) {
      await both.same(frame(GetCapability, { capability, property: 0, propertyCount: 0x1000 }));
    }
    const { ours, theirs } = await both.both(frame(GetCapability, { capability: TPM_CAP.COMMANDS, property: 0, propertyCount: 0x1000 }));
    const [mine, reference] = [ours, theirs].map((answer) => parse(GetCapability, answer).out?.capabilityData.data as number[]);
    assert.deepEqual(
      mine?.filter((attributes) => (attributes & TPMA_CC.commandIndex) < 0x5000),
      reference,
    );
  });

  it('what neither serves', async () => {
    const {
      FieldUpgradeStart,
      FieldUpgradeData,
      FirmwareRead,
      AC_Send,
      AC_GetCapability,
      Policy_AC_SendSelect,
      ACT_SetTimeout,
      Vendor_TCG_Test,
    } = TPM_CC;
    for (const code of [
      FieldUpgradeStart,
      FieldUpgradeData,
      FirmwareRead,
      AC_Send,
      AC_GetCapability,
      Policy_AC_SendSelect,
      ACT_SetTimeout,
      Vendor_TCG_Test,
    ]) {
      await both.sameCode(rawFrame(code, [], none));
    }
  });
});
