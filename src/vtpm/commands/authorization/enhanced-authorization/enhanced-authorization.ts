// TPM 2.0 Library Part 3, 23: enhanced authorization.
import type { Handlers } from '../../../dispatch/handler.js';
import { policyAuthorizationHandlers } from './grants.js';
import { policyLimitHandlers } from './limits.js';
import { policyStateHandlers } from './state.js';

export const enhancedAuthorizationHandlers = {
  ...policyAuthorizationHandlers,
  ...policyStateHandlers,
  ...policyLimitHandlers,
} satisfies Partial<Handlers>;
