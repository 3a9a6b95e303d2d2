// TPM 2.0 Library Part 2, 10.11 and 10.12: clock and attestation structures.
import { MAX_NV_BUFFER_SIZE, TPM_GENERATED, TPM_ST } from '../constants/index.js';
import { TPM_RC } from '../response-code.js';
import { type Infer, oneOf, select, struct, tpm2b, uint16, uint32, uint64, union } from '../schema.js';
import { TPM_ALG_ID, TPM_ST_FIELD, TPMI_YES_NO } from './constants.js';
import { TPM2B_DATA, TPM2B_DIGEST, TPM2B_MAX_NV_BUFFER, TPM2B_NAME, TPML_PCR_SELECTION } from './digests.js';

/** Clock in milliseconds, and the counters that tell whether it can be trusted (Part 2, 10.11.1). */
export const TPMS_CLOCK_INFO = struct({ clock: uint64, resetCount: uint32, restartCount: uint32, safe: TPMI_YES_NO });
export type TPMS_CLOCK_INFO = Infer<typeof TPMS_CLOCK_INFO>;
/** Milliseconds since power on, and the clock (Part 2, 10.11.6). */
export const TPMS_TIME_INFO = struct({ time: uint64, clockInfo: TPMS_CLOCK_INFO });
export type TPMS_TIME_INFO = Infer<typeof TPMS_TIME_INFO>;

export const TPMS_TIME_ATTEST_INFO = struct({ time: TPMS_TIME_INFO, firmwareVersion: uint64 });
export type TPMS_TIME_ATTEST_INFO = Infer<typeof TPMS_TIME_ATTEST_INFO>;
export const TPMS_CERTIFY_INFO = struct({ name: TPM2B_NAME, qualifiedName: TPM2B_NAME });
export type TPMS_CERTIFY_INFO = Infer<typeof TPMS_CERTIFY_INFO>;
export const TPMS_QUOTE_INFO = struct({ pcrSelect: TPML_PCR_SELECTION, pcrDigest: TPM2B_DIGEST });
export type TPMS_QUOTE_INFO = Infer<typeof TPMS_QUOTE_INFO>;
export const TPMS_COMMAND_AUDIT_INFO = struct({
  auditCounter: uint64,
  digestAlg: TPM_ALG_ID,
  auditDigest: TPM2B_DIGEST,
  commandDigest: TPM2B_DIGEST,
});
export type TPMS_COMMAND_AUDIT_INFO = Infer<typeof TPMS_COMMAND_AUDIT_INFO>;
export const TPMS_SESSION_AUDIT_INFO = struct({ exclusiveSession: TPMI_YES_NO, sessionDigest: TPM2B_DIGEST });
export type TPMS_SESSION_AUDIT_INFO = Infer<typeof TPMS_SESSION_AUDIT_INFO>;
export const TPMS_CREATION_INFO = struct({ objectName: TPM2B_NAME, creationHash: TPM2B_DIGEST });
export type TPMS_CREATION_INFO = Infer<typeof TPMS_CREATION_INFO>;
export const TPMS_NV_CERTIFY_INFO = struct({ indexName: TPM2B_NAME, offset: uint16, nvContents: TPM2B_MAX_NV_BUFFER });
export type TPMS_NV_CERTIFY_INFO = Infer<typeof TPMS_NV_CERTIFY_INFO>;
export const TPMS_NV_DIGEST_CERTIFY_INFO = struct({ indexName: TPM2B_NAME, nvDigest: TPM2B_DIGEST });
export type TPMS_NV_DIGEST_CERTIFY_INFO = Infer<typeof TPMS_NV_DIGEST_CERTIFY_INFO>;

/** Kinds of attestation (Part 2, 10.12); else `TPM_RC_SELECTOR`. */
export const TPMI_ST_ATTEST = oneOf(
  TPM_ST_FIELD,
  [
    TPM_ST.ATTEST_CERTIFY,
    TPM_ST.ATTEST_CREATION,
    TPM_ST.ATTEST_QUOTE,
    TPM_ST.ATTEST_COMMAND_AUDIT,
    TPM_ST.ATTEST_SESSION_AUDIT,
    TPM_ST.ATTEST_TIME,
    TPM_ST.ATTEST_NV,
    TPM_ST.ATTEST_NV_DIGEST,
  ],
  TPM_RC.SELECTOR,
);
export const TPMU_ATTEST = union({
  [TPM_ST.ATTEST_CERTIFY]: TPMS_CERTIFY_INFO,
  [TPM_ST.ATTEST_CREATION]: TPMS_CREATION_INFO,
  [TPM_ST.ATTEST_QUOTE]: TPMS_QUOTE_INFO,
  [TPM_ST.ATTEST_COMMAND_AUDIT]: TPMS_COMMAND_AUDIT_INFO,
  [TPM_ST.ATTEST_SESSION_AUDIT]: TPMS_SESSION_AUDIT_INFO,
  [TPM_ST.ATTEST_TIME]: TPMS_TIME_ATTEST_INFO,
  [TPM_ST.ATTEST_NV]: TPMS_NV_CERTIFY_INFO,
  [TPM_ST.ATTEST_NV_DIGEST]: TPMS_NV_DIGEST_CERTIFY_INFO,
});
/** What a TPM signs (Part 2, 10.12). `TPM_RC_VALUE` if `magic` is not `TPM_GENERATED`. */
export const TPMS_ATTEST = struct({
  magic: oneOf(uint32, [TPM_GENERATED], TPM_RC.VALUE),
  type: TPMI_ST_ATTEST,
  qualifiedSigner: TPM2B_NAME,
  extraData: TPM2B_DATA,
  clockInfo: TPMS_CLOCK_INFO,
  firmwareVersion: uint64,
  attested: select('type', TPMU_ATTEST),
});
export type TPMS_ATTEST = Infer<typeof TPMS_ATTEST>;
/** A `TPMS_ATTEST` as the bytes that are signed; the largest is that of an NV index. */
export const TPM2B_ATTEST = tpm2b(MAX_NV_BUFFER_SIZE + 256);
