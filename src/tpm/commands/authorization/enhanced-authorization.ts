// TPM 2.0 Library Part 3, 23: enhanced authorization.
import { command, noAuth, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { int32, uint16 } from '../../schema.js';
import {
  TPM2B_DIGEST,
  TPM2B_NAME,
  TPM2B_NONCE,
  TPM2B_OPERAND,
  TPM2B_TIMEOUT,
  TPMA_LOCALITY_FIELD,
  TPMI_DH_ENTITY,
  TPMI_DH_OBJECT,
  TPMI_RH_NV_AUTH,
  TPMI_RH_NV_INDEX,
  TPMI_SH_POLICY,
  TPMI_YES_NO,
  TPML_DIGEST_OR,
  TPML_PCR_SELECTION,
  TPMT_SIGNATURE,
  TPMT_TK_AUTH,
  TPMT_TK_VERIFIED,
  TPM_CC_FIELD,
  TPM_EO_FIELD,
} from '../../structures/index.js';

export const PolicySigned = command(TPM_CC.PolicySigned, 'PolicySigned', {
  section: '23.3',
  handles: { authObject: noAuth(TPMI_DH_OBJECT), policySession: noAuth(TPMI_SH_POLICY) },
  in: { nonceTPM: TPM2B_NONCE, cpHashA: TPM2B_DIGEST, policyRef: TPM2B_NONCE, expiration: int32, auth: TPMT_SIGNATURE },
  out: { timeout: TPM2B_TIMEOUT, policyTicket: TPMT_TK_AUTH },
});

export const PolicySecret = command(TPM_CC.PolicySecret, 'PolicySecret', {
  section: '23.4',
  handles: { authHandle: user(TPMI_DH_ENTITY), policySession: noAuth(TPMI_SH_POLICY) },
  in: { nonceTPM: TPM2B_NONCE, cpHashA: TPM2B_DIGEST, policyRef: TPM2B_NONCE, expiration: int32 },
  out: { timeout: TPM2B_TIMEOUT, policyTicket: TPMT_TK_AUTH },
});

export const PolicyTicket = command(TPM_CC.PolicyTicket, 'PolicyTicket', {
  section: '23.5',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { timeout: TPM2B_TIMEOUT, cpHashA: TPM2B_DIGEST, policyRef: TPM2B_NONCE, authName: TPM2B_NAME, ticket: TPMT_TK_AUTH },
});

export const PolicyOR = command(TPM_CC.PolicyOR, 'PolicyOR', {
  section: '23.6',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { pHashList: TPML_DIGEST_OR },
});

export const PolicyPCR = command(TPM_CC.PolicyPCR, 'PolicyPCR', {
  section: '23.7',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { pcrDigest: TPM2B_DIGEST, pcrs: TPML_PCR_SELECTION },
});

export const PolicyLocality = command(TPM_CC.PolicyLocality, 'PolicyLocality', {
  section: '23.8',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { locality: TPMA_LOCALITY_FIELD },
});

export const PolicyNV = command(TPM_CC.PolicyNV, 'PolicyNV', {
  section: '23.9',
  handles: { authHandle: user(TPMI_RH_NV_AUTH), nvIndex: noAuth(TPMI_RH_NV_INDEX), policySession: noAuth(TPMI_SH_POLICY) },
  in: { operandB: TPM2B_OPERAND, offset: uint16, operation: TPM_EO_FIELD },
});

export const PolicyCounterTimer = command(TPM_CC.PolicyCounterTimer, 'PolicyCounterTimer', {
  section: '23.10',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { operandB: TPM2B_OPERAND, offset: uint16, operation: TPM_EO_FIELD },
});

export const PolicyCommandCode = command(TPM_CC.PolicyCommandCode, 'PolicyCommandCode', {
  section: '23.11',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { code: TPM_CC_FIELD },
});

export const PolicyPhysicalPresence = command(TPM_CC.PolicyPhysicalPresence, 'PolicyPhysicalPresence', {
  section: '23.12',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
});

export const PolicyCpHash = command(TPM_CC.PolicyCpHash, 'PolicyCpHash', {
  section: '23.13',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { cpHashA: TPM2B_DIGEST },
});

export const PolicyNameHash = command(TPM_CC.PolicyNameHash, 'PolicyNameHash', {
  section: '23.14',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { nameHash: TPM2B_DIGEST },
});

export const PolicyDuplicationSelect = command(TPM_CC.PolicyDuplicationSelect, 'PolicyDuplicationSelect', {
  section: '23.15',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { objectName: TPM2B_NAME, newParentName: TPM2B_NAME, includeObject: TPMI_YES_NO },
});

export const PolicyAuthorize = command(TPM_CC.PolicyAuthorize, 'PolicyAuthorize', {
  section: '23.16',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { approvedPolicy: TPM2B_DIGEST, policyRef: TPM2B_NONCE, keySign: TPM2B_NAME, checkTicket: TPMT_TK_VERIFIED },
});

export const PolicyAuthValue = command(TPM_CC.PolicyAuthValue, 'PolicyAuthValue', {
  section: '23.17',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
});

export const PolicyPassword = command(TPM_CC.PolicyPassword, 'PolicyPassword', {
  section: '23.18',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
});

export const PolicyGetDigest = command(TPM_CC.PolicyGetDigest, 'PolicyGetDigest', {
  section: '23.19',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  out: { policyDigest: TPM2B_DIGEST },
});

export const PolicyNvWritten = command(TPM_CC.PolicyNvWritten, 'PolicyNvWritten', {
  section: '23.20',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { writtenSet: TPMI_YES_NO },
});

export const PolicyTemplate = command(TPM_CC.PolicyTemplate, 'PolicyTemplate', {
  section: '23.21',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { templateHash: TPM2B_DIGEST },
});

export const PolicyAuthorizeNV = command(TPM_CC.PolicyAuthorizeNV, 'PolicyAuthorizeNV', {
  section: '23.22',
  handles: { authHandle: user(TPMI_RH_NV_AUTH), nvIndex: noAuth(TPMI_RH_NV_INDEX), policySession: noAuth(TPMI_SH_POLICY) },
});
