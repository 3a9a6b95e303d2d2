// TPM 2.0 Library Part 3, 31: non-volatile storage.
import { admin, command, noAuth, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint16, uint64 } from '../../schema.js';
import {
  TPM2B_ATTEST,
  TPM2B_AUTH,
  TPM2B_DATA,
  TPM2B_MAX_NV_BUFFER,
  TPM2B_NAME,
  TPM2B_NV_PUBLIC,
  TPMI_DH_OBJECT_PLUS,
  TPMI_RH_NV_AUTH,
  TPMI_RH_NV_INDEX,
  TPMI_RH_PLATFORM,
  TPMI_RH_PROVISION,
  TPMT_SIGNATURE_PLUS,
  TPMT_SIG_SCHEME_PLUS,
} from '../../structures/index.js';

export const NV_DefineSpace = command(TPM_CC.NV_DefineSpace, 'NV_DefineSpace', {
  section: '31.3',
  handles: { authHandle: user(TPMI_RH_PROVISION) },
  in: { auth: TPM2B_AUTH, publicInfo: TPM2B_NV_PUBLIC },
  nv: true,
});

export const NV_UndefineSpace = command(TPM_CC.NV_UndefineSpace, 'NV_UndefineSpace', {
  section: '31.4',
  handles: { authHandle: user(TPMI_RH_PROVISION), nvIndex: noAuth(TPMI_RH_NV_INDEX) },
  nv: true,
});

export const NV_UndefineSpaceSpecial = command(TPM_CC.NV_UndefineSpaceSpecial, 'NV_UndefineSpaceSpecial', {
  section: '31.5',
  handles: { nvIndex: admin(TPMI_RH_NV_INDEX), platform: user(TPMI_RH_PLATFORM) },
  nv: true,
});

export const NV_ReadPublic = command(TPM_CC.NV_ReadPublic, 'NV_ReadPublic', {
  section: '31.6',
  handles: { nvIndex: noAuth(TPMI_RH_NV_INDEX) },
  out: { nvPublic: TPM2B_NV_PUBLIC, nvName: TPM2B_NAME },
});

export const NV_Write = command(TPM_CC.NV_Write, 'NV_Write', {
  section: '31.7',
  handles: { authHandle: user(TPMI_RH_NV_AUTH), nvIndex: noAuth(TPMI_RH_NV_INDEX) },
  in: { data: TPM2B_MAX_NV_BUFFER, offset: uint16 },
  nv: true,
});

export const NV_Increment = command(TPM_CC.NV_Increment, 'NV_Increment', {
  section: '31.8',
  handles: { authHandle: user(TPMI_RH_NV_AUTH), nvIndex: noAuth(TPMI_RH_NV_INDEX) },
  nv: true,
});

export const NV_Extend = command(TPM_CC.NV_Extend, 'NV_Extend', {
  section: '31.9',
  handles: { authHandle: user(TPMI_RH_NV_AUTH), nvIndex: noAuth(TPMI_RH_NV_INDEX) },
  in: { data: TPM2B_MAX_NV_BUFFER },
  nv: true,
});

export const NV_SetBits = command(TPM_CC.NV_SetBits, 'NV_SetBits', {
  section: '31.10',
  handles: { authHandle: user(TPMI_RH_NV_AUTH), nvIndex: noAuth(TPMI_RH_NV_INDEX) },
  in: { bits: uint64 },
  nv: true,
});

export const NV_WriteLock = command(TPM_CC.NV_WriteLock, 'NV_WriteLock', {
  section: '31.11',
  handles: { authHandle: user(TPMI_RH_NV_AUTH), nvIndex: noAuth(TPMI_RH_NV_INDEX) },
  nv: true,
});

export const NV_GlobalWriteLock = command(TPM_CC.NV_GlobalWriteLock, 'NV_GlobalWriteLock', {
  section: '31.12',
  handles: { authHandle: user(TPMI_RH_PROVISION) },
  nv: true,
});

export const NV_Read = command(TPM_CC.NV_Read, 'NV_Read', {
  section: '31.13',
  handles: { authHandle: user(TPMI_RH_NV_AUTH), nvIndex: noAuth(TPMI_RH_NV_INDEX) },
  in: { size: uint16, offset: uint16 },
  out: { data: TPM2B_MAX_NV_BUFFER },
});

export const NV_ReadLock = command(TPM_CC.NV_ReadLock, 'NV_ReadLock', {
  section: '31.14',
  handles: { authHandle: user(TPMI_RH_NV_AUTH), nvIndex: noAuth(TPMI_RH_NV_INDEX) },
  nv: true,
});

export const NV_ChangeAuth = command(TPM_CC.NV_ChangeAuth, 'NV_ChangeAuth', {
  section: '31.15',
  handles: { nvIndex: admin(TPMI_RH_NV_INDEX) },
  in: { newAuth: TPM2B_AUTH },
  nv: true,
});

export const NV_Certify = command(TPM_CC.NV_Certify, 'NV_Certify', {
  section: '31.16',
  handles: { signHandle: user(TPMI_DH_OBJECT_PLUS), authHandle: user(TPMI_RH_NV_AUTH), nvIndex: noAuth(TPMI_RH_NV_INDEX) },
  in: { qualifyingData: TPM2B_DATA, inScheme: TPMT_SIG_SCHEME_PLUS, size: uint16, offset: uint16 },
  out: { certifyInfo: TPM2B_ATTEST, signature: TPMT_SIGNATURE_PLUS },
});
