// How the matrix of virtual PCRs is stored and travels: values, and what providers keep for themselves.
import { type Infer, list, struct, tpm2b, uint16 } from '../../tpm/schema.js';
import { longBytes } from '../long-bytes.js';

const MAX_PCRS = 32;
const MAX_VECTORS = 1024;
const MAX_STATE = 64 * 1024 * 1024;

const savedVector = struct({ provider: tpm2b(64), bank: uint16, values: tpm2b(64 * MAX_PCRS) });
/** Values of one provider in one bank, side by side. */
export type SavedVector = Infer<typeof savedVector>;

const savedProvider = struct({ provider: tpm2b(64), state: longBytes(MAX_STATE) });
/** What one provider must know to go on. */
export type SavedProvider = Infer<typeof savedProvider>;

export const savedMatrix = struct({ vectors: list(savedVector, MAX_VECTORS), providers: list(savedProvider, MAX_VECTORS) });
export type SavedMatrix = Infer<typeof savedMatrix>;
