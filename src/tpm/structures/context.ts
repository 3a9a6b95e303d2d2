// TPM 2.0 Library Part 2, 14 and 15: saved contexts and creation data.
import { MAX_CONTEXT_SIZE } from '../constants/index.js';
import { type Infer, sized, struct, tpm2b, uint64 } from '../schema.js';
import { TPM_ALG_ID, TPMA_LOCALITY_FIELD } from './constants.js';
import { TPM2B_DATA, TPM2B_DIGEST, TPM2B_NAME, TPML_PCR_SELECTION } from './digests.js';
import { TPMI_DH_SAVED, TPMI_RH_HIERARCHY_PLUS } from './handles.js';

export const TPM2B_CONTEXT_SENSITIVE = tpm2b(MAX_CONTEXT_SIZE);
export const TPMS_CONTEXT_DATA = struct({ integrity: TPM2B_DIGEST, encrypted: TPM2B_CONTEXT_SENSITIVE });
export type TPMS_CONTEXT_DATA = Infer<typeof TPMS_CONTEXT_DATA>;
/** A {@link TPMS_CONTEXT_DATA} as bytes; whoever made it knows the format. */
export const TPM2B_CONTEXT_DATA = tpm2b(MAX_CONTEXT_SIZE);
/** A saved session or object (Part 2, 14.5). */
export const TPMS_CONTEXT = struct({
  sequence: uint64,
  savedHandle: TPMI_DH_SAVED,
  hierarchy: TPMI_RH_HIERARCHY_PLUS,
  contextBlob: TPM2B_CONTEXT_DATA,
});
export type TPMS_CONTEXT = Infer<typeof TPMS_CONTEXT>;

/** Circumstances of an object's creation (Part 2, 15.1). */
export const TPMS_CREATION_DATA = struct({
  pcrSelect: TPML_PCR_SELECTION,
  pcrDigest: TPM2B_DIGEST,
  locality: TPMA_LOCALITY_FIELD,
  parentNameAlg: TPM_ALG_ID,
  parentName: TPM2B_NAME,
  parentQualifiedName: TPM2B_NAME,
  outsideInfo: TPM2B_DATA,
});
export type TPMS_CREATION_DATA = Infer<typeof TPMS_CREATION_DATA>;
export const TPM2B_CREATION_DATA = sized(TPMS_CREATION_DATA);
