// TPM 2.0 Library Part 3, 33: authenticated countdown timers.
import { command, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint32 } from '../../schema.js';
import { TPMI_RH_ACT } from '../../structures/index.js';

export const ACT_SetTimeout = command(TPM_CC.ACT_SetTimeout, 'ACT_SetTimeout', {
  section: '33.2',
  handles: { actHandle: user(TPMI_RH_ACT) },
  in: { startTimeout: uint32 },
});
