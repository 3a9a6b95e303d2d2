// TPM 2.0 Library Part 3, 23: enhanced authorization.
import type { Handlers } from '../dispatch/handler.js';
import { policyAuthorizationHandlers } from './enhanced-authorization-grants.js';
import { policyLimitHandlers } from './enhanced-authorization-limits.js';
import { policyStateHandlers } from './enhanced-authorization-state.js';

export const enhancedAuthorizationHandlers = {
  ...policyAuthorizationHandlers,
  ...policyStateHandlers,
  ...policyLimitHandlers,
} satisfies Partial<Handlers>;
