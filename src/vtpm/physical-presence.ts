// TPM 2.0 Library Part 1, 39: physical presence. Nobody is present at a virtual TPM: it is never asserted.
import { TPM_CC } from '../tpm/constants/index.js';

/** Commands that the platform may authorize only with physical presence, and so never. PP_Commands, which could add to them, is one itself. */
export const physicalPresenceCommands: ReadonlySet<number> = new Set([TPM_CC.PP_Commands]);
