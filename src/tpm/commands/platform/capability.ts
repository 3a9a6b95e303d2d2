// TPM 2.0 Library Part 3, 30: capability commands.
import { command } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint32 } from '../../schema.js';
import { TPMI_YES_NO, TPMS_CAPABILITY_DATA, TPMT_PUBLIC_PARMS, TPM_CAP_FIELD } from '../../structures/index.js';

export const GetCapability = command(TPM_CC.GetCapability, 'GetCapability', {
  section: '30.2',
  in: { capability: TPM_CAP_FIELD, property: uint32, propertyCount: uint32 },
  out: { moreData: TPMI_YES_NO, capabilityData: TPMS_CAPABILITY_DATA },
});

export const TestParms = command(TPM_CC.TestParms, 'TestParms', { section: '30.3', in: { parameters: TPMT_PUBLIC_PARMS } });
