// TPM 2.0 Library Part 3, 21: command audit.
import { command, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { TPMI_ALG_HASH_PLUS, TPMI_RH_PROVISION, TPML_CC } from '../../structures/index.js';

export const SetCommandCodeAuditStatus = command(TPM_CC.SetCommandCodeAuditStatus, 'SetCommandCodeAuditStatus', {
  section: '21.2',
  handles: { auth: user(TPMI_RH_PROVISION) },
  in: { auditAlg: TPMI_ALG_HASH_PLUS, setList: TPML_CC, clearList: TPML_CC },
  nv: true,
});
