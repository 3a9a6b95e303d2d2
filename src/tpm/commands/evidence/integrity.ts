// TPM 2.0 Library Part 3, 22: integrity collection (PCR).
import { command, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint32 } from '../../schema.js';
import {
  TPM2B_DIGEST,
  TPM2B_EVENT,
  TPMI_ALG_HASH_PLUS,
  TPMI_DH_PCR,
  TPMI_DH_PCR_PLUS,
  TPMI_RH_PLATFORM,
  TPMI_YES_NO,
  TPML_DIGEST,
  TPML_DIGEST_VALUES,
  TPML_PCR_SELECTION,
} from '../../structures/index.js';

export const PCR_Extend = command(TPM_CC.PCR_Extend, 'PCR_Extend', {
  section: '22.2',
  handles: { pcrHandle: user(TPMI_DH_PCR_PLUS) },
  in: { digests: TPML_DIGEST_VALUES },
  nv: true,
});

export const PCR_Event = command(TPM_CC.PCR_Event, 'PCR_Event', {
  section: '22.3',
  handles: { pcrHandle: user(TPMI_DH_PCR_PLUS) },
  in: { eventData: TPM2B_EVENT },
  out: { digests: TPML_DIGEST_VALUES },
  nv: true,
});

export const PCR_Read = command(TPM_CC.PCR_Read, 'PCR_Read', {
  section: '22.4',
  in: { pcrSelectionIn: TPML_PCR_SELECTION },
  out: { pcrUpdateCounter: uint32, pcrSelectionOut: TPML_PCR_SELECTION, pcrValues: TPML_DIGEST },
});

export const PCR_Allocate = command(TPM_CC.PCR_Allocate, 'PCR_Allocate', {
  section: '22.5',
  handles: { authHandle: user(TPMI_RH_PLATFORM) },
  in: { pcrAllocation: TPML_PCR_SELECTION },
  out: { allocationSuccess: TPMI_YES_NO, maxPCR: uint32, sizeNeeded: uint32, sizeAvailable: uint32 },
  nv: true,
});

export const PCR_SetAuthPolicy = command(TPM_CC.PCR_SetAuthPolicy, 'PCR_SetAuthPolicy', {
  section: '22.6',
  handles: { authHandle: user(TPMI_RH_PLATFORM) },
  in: { authPolicy: TPM2B_DIGEST, hashAlg: TPMI_ALG_HASH_PLUS, pcrNum: TPMI_DH_PCR },
  nv: true,
});

export const PCR_SetAuthValue = command(TPM_CC.PCR_SetAuthValue, 'PCR_SetAuthValue', {
  section: '22.7',
  handles: { pcrHandle: user(TPMI_DH_PCR) },
  in: { auth: TPM2B_DIGEST },
});

export const PCR_Reset = command(TPM_CC.PCR_Reset, 'PCR_Reset', { section: '22.8', handles: { pcrHandle: user(TPMI_DH_PCR) }, nv: true });
