// TPM 2.0 Library Part 2, 10.8 to 10.10 and 16: what GetCapability and AC_GetCapability return.
import {
  MAX_AC_CAPABILITIES,
  MAX_ACT_DATA,
  MAX_CAP_ALGS,
  MAX_ECC_CURVES,
  MAX_PCR_PROPERTIES,
  MAX_TAGGED_POLICIES,
  MAX_TPM_PROPERTIES,
  TPM_CAP,
} from '../constants/index.js';
import { type Infer, list, type Schema, select, struct, uint32, union } from '../schema.js';
import {
  TPM_ALG_ID,
  TPM_CAP_FIELD,
  TPM_ECC_CURVE_FIELD,
  TPM_HANDLE,
  TPM_PT_FIELD,
  TPM_PT_PCR_FIELD,
  TPMA_ACT_FIELD,
  TPMA_ALGORITHM_FIELD,
} from './constants.js';
import { PCR_BITMAP, TPML_CC, TPML_CCA, TPML_HANDLE, TPML_PCR_SELECTION, TPMT_HA_PLUS } from './digests.js';

export const TPMS_ALGORITHM_DESCRIPTION = struct({ alg: TPM_ALG_ID, attributes: TPMA_ALGORITHM_FIELD });
export type TPMS_ALGORITHM_DESCRIPTION = Infer<typeof TPMS_ALGORITHM_DESCRIPTION>;
export const TPMS_ALG_PROPERTY = struct({ alg: TPM_ALG_ID, algProperties: TPMA_ALGORITHM_FIELD });
export type TPMS_ALG_PROPERTY = Infer<typeof TPMS_ALG_PROPERTY>;
export const TPMS_TAGGED_PROPERTY = struct({ property: TPM_PT_FIELD, value: uint32 });
export type TPMS_TAGGED_PROPERTY = Infer<typeof TPMS_TAGGED_PROPERTY>;
export const TPMS_TAGGED_PCR_SELECT = struct({ tag: TPM_PT_PCR_FIELD, pcrSelect: PCR_BITMAP });
export type TPMS_TAGGED_PCR_SELECT = Infer<typeof TPMS_TAGGED_PCR_SELECT>;
export const TPMS_TAGGED_POLICY = struct({ handle: TPM_HANDLE, policyHash: TPMT_HA_PLUS });
export type TPMS_TAGGED_POLICY = Infer<typeof TPMS_TAGGED_POLICY>;
export const TPMS_ACT_DATA = struct({ handle: TPM_HANDLE, timeout: uint32, attributes: TPMA_ACT_FIELD });
export type TPMS_ACT_DATA = Infer<typeof TPMS_ACT_DATA>;

export const TPML_ALG_PROPERTY = list(TPMS_ALG_PROPERTY, MAX_CAP_ALGS);
export const TPML_TAGGED_TPM_PROPERTY = list(TPMS_TAGGED_PROPERTY, MAX_TPM_PROPERTIES);
export const TPML_TAGGED_PCR_PROPERTY = list(TPMS_TAGGED_PCR_SELECT, MAX_PCR_PROPERTIES);
export const TPML_ECC_CURVE = list(TPM_ECC_CURVE_FIELD, MAX_ECC_CURVES);
export const TPML_TAGGED_POLICY = list(TPMS_TAGGED_POLICY, MAX_TAGGED_POLICIES);
export const TPML_ACT_DATA = list(TPMS_ACT_DATA, MAX_ACT_DATA);

/** The list for each capability (Part 2, 10.10.1). */
export const TPMU_CAPABILITIES = union({
  [TPM_CAP.ALGS]: TPML_ALG_PROPERTY,
  [TPM_CAP.HANDLES]: TPML_HANDLE,
  [TPM_CAP.COMMANDS]: TPML_CCA,
  [TPM_CAP.PP_COMMANDS]: TPML_CC,
  [TPM_CAP.AUDIT_COMMANDS]: TPML_CC,
  [TPM_CAP.PCRS]: TPML_PCR_SELECTION,
  [TPM_CAP.TPM_PROPERTIES]: TPML_TAGGED_TPM_PROPERTY,
  [TPM_CAP.PCR_PROPERTIES]: TPML_TAGGED_PCR_PROPERTY,
  [TPM_CAP.ECC_CURVES]: TPML_ECC_CURVE,
  [TPM_CAP.AUTH_POLICIES]: TPML_TAGGED_POLICY,
  [TPM_CAP.ACT]: TPML_ACT_DATA,
});
/** A capability and its list (Part 2, 10.10.2). */
export const TPMS_CAPABILITY_DATA = struct({ capability: TPM_CAP_FIELD, data: select('capability', TPMU_CAPABILITIES) });
export type TPMS_CAPABILITY_DATA = Infer<typeof TPMS_CAPABILITY_DATA>;

/** Any tag of an attached component's capability (Part 2, 16.1). */
export const TPM_AT_FIELD: Schema<number> = uint32;
export const TPMS_AC_OUTPUT = struct({ tag: TPM_AT_FIELD, data: uint32 });
export type TPMS_AC_OUTPUT = Infer<typeof TPMS_AC_OUTPUT>;
export const TPML_AC_CAPABILITIES = list(TPMS_AC_OUTPUT, MAX_AC_CAPABILITIES);
