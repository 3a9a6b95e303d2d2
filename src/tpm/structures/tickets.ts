// TPM 2.0 Library Part 2, 10.7: tickets. The wrong tag is `TPM_RC_TAG` (`TPM_RC_VALUE` if it is no tag at all).
import { TPM_ST } from '../constants/index.js';
import { TPM_RC } from '../response-code.js';
import { type Infer, oneOf, struct } from '../schema.js';
import { TPM_ST_FIELD } from './constants.js';
import { TPM2B_DIGEST } from './digests.js';
import { TPMI_RH_HIERARCHY_PLUS } from './handles.js';

/** An object was created by this TPM (Part 2, 10.7.3). */
export const TPMT_TK_CREATION = struct({
  tag: oneOf(TPM_ST_FIELD, [TPM_ST.CREATION], TPM_RC.TAG),
  hierarchy: TPMI_RH_HIERARCHY_PLUS,
  digest: TPM2B_DIGEST,
});
export type TPMT_TK_CREATION = Infer<typeof TPMT_TK_CREATION>;

/** A signature was verified (Part 2, 10.7.4). */
export const TPMT_TK_VERIFIED = struct({
  tag: oneOf(TPM_ST_FIELD, [TPM_ST.VERIFIED], TPM_RC.TAG),
  hierarchy: TPMI_RH_HIERARCHY_PLUS,
  digest: TPM2B_DIGEST,
});
export type TPMT_TK_VERIFIED = Infer<typeof TPMT_TK_VERIFIED>;

/** An authorization was given by `PolicySigned` or `PolicySecret` (Part 2, 10.7.5). */
export const TPMT_TK_AUTH = struct({
  tag: oneOf(TPM_ST_FIELD, [TPM_ST.AUTH_SIGNED, TPM_ST.AUTH_SECRET], TPM_RC.TAG),
  hierarchy: TPMI_RH_HIERARCHY_PLUS,
  digest: TPM2B_DIGEST,
});
export type TPMT_TK_AUTH = Infer<typeof TPMT_TK_AUTH>;

/** What was hashed did not begin with `TPM_GENERATED` (Part 2, 10.7.6). */
export const TPMT_TK_HASHCHECK = struct({
  tag: oneOf(TPM_ST_FIELD, [TPM_ST.HASHCHECK], TPM_RC.TAG),
  hierarchy: TPMI_RH_HIERARCHY_PLUS,
  digest: TPM2B_DIGEST,
});
export type TPMT_TK_HASHCHECK = Infer<typeof TPMT_TK_HASHCHECK>;
