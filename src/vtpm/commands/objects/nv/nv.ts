// TPM 2.0 Library Part 3, 31: non-volatile storage.
import type { Handlers } from '../../../dispatch/handler.js';
import { nvDataHandlers } from './nv-data.js';
import { nvLockHandlers } from './nv-locks.js';
import { nvSpaceHandlers } from './nv-space.js';

export const nvHandlers = { ...nvSpaceHandlers, ...nvDataHandlers, ...nvLockHandlers } satisfies Partial<Handlers>;
