// TPM 2.0 Library Part 3, 19: ephemeral EC keys.
import { command, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint16 } from '../../schema.js';
import { TPM2B_ECC_PARAMETER, TPM2B_ECC_POINT, TPM2B_SENSITIVE_DATA, TPMI_DH_OBJECT, TPMI_ECC_CURVE } from '../../structures/index.js';

export const Commit = command(TPM_CC.Commit, 'Commit', {
  section: '19.2',
  handles: { signHandle: user(TPMI_DH_OBJECT) },
  in: { P1: TPM2B_ECC_POINT, s2: TPM2B_SENSITIVE_DATA, y2: TPM2B_ECC_PARAMETER },
  out: { K: TPM2B_ECC_POINT, L: TPM2B_ECC_POINT, E: TPM2B_ECC_POINT, counter: uint16 },
});

export const EC_Ephemeral = command(TPM_CC.EC_Ephemeral, 'EC_Ephemeral', {
  section: '19.3',
  in: { curveID: TPMI_ECC_CURVE },
  out: { Q: TPM2B_ECC_POINT, counter: uint16 },
});
