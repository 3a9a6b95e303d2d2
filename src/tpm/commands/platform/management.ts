// TPM 2.0 Library Part 3, 26: miscellaneous management functions.
import { command, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint32 } from '../../schema.js';
import { TPMI_RH_PLATFORM, TPML_CC } from '../../structures/index.js';

export const PP_Commands = command(TPM_CC.PP_Commands, 'PP_Commands', {
  section: '26.2',
  handles: { auth: user(TPMI_RH_PLATFORM) },
  in: { setList: TPML_CC, clearList: TPML_CC },
  nv: true,
});

export const SetAlgorithmSet = command(TPM_CC.SetAlgorithmSet, 'SetAlgorithmSet', {
  section: '26.3',
  handles: { authHandle: user(TPMI_RH_PLATFORM) },
  in: { algorithmSet: uint32 },
  nv: true,
});
