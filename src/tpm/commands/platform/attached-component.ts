// TPM 2.0 Library Part 3, 32: attached components.
import { command, dup, noAuth, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint32 } from '../../schema.js';
import {
  TPM2B_MAX_BUFFER,
  TPM2B_NAME,
  TPMI_DH_OBJECT,
  TPMI_RH_AC,
  TPMI_RH_NV_AUTH,
  TPMI_SH_POLICY,
  TPMI_YES_NO,
  TPML_AC_CAPABILITIES,
  TPMS_AC_OUTPUT,
  TPM_AT_FIELD,
} from '../../structures/index.js';

export const AC_GetCapability = command(TPM_CC.AC_GetCapability, 'AC_GetCapability', {
  section: '32.2',
  handles: { ac: noAuth(TPMI_RH_AC) },
  in: { capability: TPM_AT_FIELD, count: uint32 },
  out: { moreData: TPMI_YES_NO, capabilitiesData: TPML_AC_CAPABILITIES },
});

export const AC_Send = command(TPM_CC.AC_Send, 'AC_Send', {
  section: '32.3',
  handles: { sendObject: dup(TPMI_DH_OBJECT), authHandle: user(TPMI_RH_NV_AUTH), ac: noAuth(TPMI_RH_AC) },
  in: { acDataIn: TPM2B_MAX_BUFFER },
  out: { acDataOut: TPMS_AC_OUTPUT },
});

export const Policy_AC_SendSelect = command(TPM_CC.Policy_AC_SendSelect, 'Policy_AC_SendSelect', {
  section: '32.4',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { objectName: TPM2B_NAME, authHandleName: TPM2B_NAME, acName: TPM2B_NAME, includeObject: TPMI_YES_NO },
});
