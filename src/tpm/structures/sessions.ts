// TPM 2.0 Library Part 2, 10.13: authorization areas.
import { type Infer, struct } from '../schema.js';
import { TPMA_SESSION_FIELD } from './constants.js';
import { TPM2B_AUTH, TPM2B_NONCE } from './digests.js';
import { TPMI_SH_AUTH_SESSION_PLUS } from './handles.js';

/** One authorization of a command (Part 2, 10.13.2). */
export const TPMS_AUTH_COMMAND = struct({
  sessionHandle: TPMI_SH_AUTH_SESSION_PLUS,
  nonce: TPM2B_NONCE,
  sessionAttributes: TPMA_SESSION_FIELD,
  hmac: TPM2B_AUTH,
});
export type TPMS_AUTH_COMMAND = Infer<typeof TPMS_AUTH_COMMAND>;

/** One acknowledgment of a response (Part 2, 10.13.3). */
export const TPMS_AUTH_RESPONSE = struct({ nonce: TPM2B_NONCE, sessionAttributes: TPMA_SESSION_FIELD, hmac: TPM2B_AUTH });
export type TPMS_AUTH_RESPONSE = Infer<typeof TPMS_AUTH_RESPONSE>;
