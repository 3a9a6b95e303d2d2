// How the matrix of virtual PCRs is stored and travels: values, whose vector counts where, and what providers keep for themselves.
import { type Infer, list, struct, tpm2b, uint16 } from '../../tpm/schema.js';
import { longBytes } from '../long-bytes.js';

const MAX_PCRS = 32;
const MAX_VECTORS = 1024;
const MAX_STATE = 64 * 1024 * 1024;

const name = tpm2b(64);

const savedVector = struct({ provider: name, bank: uint16, values: tpm2b(64 * MAX_PCRS) });
/** Values of one provider in one bank, side by side. */
export type SavedVector = Infer<typeof savedVector>;

const savedProvider = struct({ provider: name, state: longBytes(MAX_STATE) });
/** What one provider must know to go on. */
export type SavedProvider = Infer<typeof savedProvider>;

/** Names of providers by PCR: whose vector the guest sees, and whose attestation goes by. None where a guest has no choice. */
export const savedChoice = struct({ presented: list(name, MAX_PCRS), attested: list(name, MAX_PCRS) });
export type SavedChoice = Infer<typeof savedChoice>;

/** All that a provider set must know to go on; `log` is empty where there is no measurement log. */
const savedSet = { choice: savedChoice, providers: list(savedProvider, MAX_VECTORS), log: longBytes(MAX_STATE) };
export const savedMatrix = struct({ vectors: list(savedVector, MAX_VECTORS), ...savedSet });
export type SavedMatrix = Infer<typeof savedMatrix>;
