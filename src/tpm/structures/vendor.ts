// Structures of the vendor commands for aware guests; docs/aware-guests.md has them byte by byte.
import { MAX_PROVIDER_LIST, MAX_PROVIDER_NAME } from '../constants/index.js';
import { type Infer, list, struct, tpm2b } from '../schema.js';
import { PCR_BITMAP } from './digests.js';

/** Name of a property provider, in ASCII. */
export const TPM2B_PROVIDER = tpm2b(MAX_PROVIDER_NAME);
/** A property provider, the PCRs at which the guest sees its vector, and those at which TPM2_Quote takes it. */
export const TPMS_PROVIDER = struct({ name: TPM2B_PROVIDER, presented: PCR_BITMAP, attested: PCR_BITMAP });
export type TPMS_PROVIDER = Infer<typeof TPMS_PROVIDER>;
export const TPML_PROVIDER = list(TPMS_PROVIDER, MAX_PROVIDER_LIST);
export type TPML_PROVIDER = Infer<typeof TPML_PROVIDER>;
