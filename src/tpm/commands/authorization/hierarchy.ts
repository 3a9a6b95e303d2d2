// TPM 2.0 Library Part 3, 24: hierarchy commands.
import { command, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import {
  TPM2B_AUTH,
  TPM2B_CREATION_DATA,
  TPM2B_DATA,
  TPM2B_DIGEST,
  TPM2B_NAME,
  TPM2B_PUBLIC,
  TPM2B_SENSITIVE_CREATE,
  TPMI_ALG_HASH_PLUS,
  TPMI_RH_CLEAR,
  TPMI_RH_ENABLES,
  TPMI_RH_HIERARCHY,
  TPMI_RH_HIERARCHY_AUTH,
  TPMI_RH_HIERARCHY_PLUS,
  TPMI_RH_HIERARCHY_POLICY,
  TPMI_RH_PLATFORM,
  TPMI_YES_NO,
  TPML_PCR_SELECTION,
  TPMT_TK_CREATION,
  TPM_HANDLE,
} from '../../structures/index.js';

export const CreatePrimary = command(TPM_CC.CreatePrimary, 'CreatePrimary', {
  section: '24.1',
  handles: { primaryHandle: user(TPMI_RH_HIERARCHY_PLUS) },
  in: { inSensitive: TPM2B_SENSITIVE_CREATE, inPublic: TPM2B_PUBLIC, outsideInfo: TPM2B_DATA, creationPCR: TPML_PCR_SELECTION },
  outHandle: { objectHandle: TPM_HANDLE },
  out: {
    outPublic: TPM2B_PUBLIC,
    creationData: TPM2B_CREATION_DATA,
    creationHash: TPM2B_DIGEST,
    creationTicket: TPMT_TK_CREATION,
    name: TPM2B_NAME,
  },
});

export const HierarchyControl = command(TPM_CC.HierarchyControl, 'HierarchyControl', {
  section: '24.2',
  handles: { authHandle: user(TPMI_RH_HIERARCHY) },
  in: { enable: TPMI_RH_ENABLES, state: TPMI_YES_NO },
  nv: true,
  extensive: true,
});

export const SetPrimaryPolicy = command(TPM_CC.SetPrimaryPolicy, 'SetPrimaryPolicy', {
  section: '24.3',
  handles: { authHandle: user(TPMI_RH_HIERARCHY_POLICY) },
  in: { authPolicy: TPM2B_DIGEST, hashAlg: TPMI_ALG_HASH_PLUS },
  nv: true,
});

export const ChangePPS = command(TPM_CC.ChangePPS, 'ChangePPS', {
  section: '24.4',
  handles: { authHandle: user(TPMI_RH_PLATFORM) },
  nv: true,
  extensive: true,
});

export const ChangeEPS = command(TPM_CC.ChangeEPS, 'ChangeEPS', {
  section: '24.5',
  handles: { authHandle: user(TPMI_RH_PLATFORM) },
  nv: true,
  extensive: true,
});

export const Clear = command(TPM_CC.Clear, 'Clear', {
  section: '24.6',
  handles: { authHandle: user(TPMI_RH_CLEAR) },
  nv: true,
  extensive: true,
});

export const ClearControl = command(TPM_CC.ClearControl, 'ClearControl', {
  section: '24.7',
  handles: { auth: user(TPMI_RH_CLEAR) },
  in: { disable: TPMI_YES_NO },
  nv: true,
});

export const HierarchyChangeAuth = command(TPM_CC.HierarchyChangeAuth, 'HierarchyChangeAuth', {
  section: '24.8',
  handles: { authHandle: user(TPMI_RH_HIERARCHY_AUTH) },
  in: { newAuth: TPM2B_AUTH },
  nv: true,
});
