// Serves policies: a guest's, and what all of them share.
import type { ApiHandlers } from './handler.js';

export const policyHandlers = {
  showPolicy: ({ guests }, { params }) => guests.get(params.name).policyView(),
  setPolicy: async ({ guests }, { params, body }) => {
    const guest = guests.get(params.name);
    const changes = await guest.setPolicy(body.policy);
    return { ...guest.policyView(), changes };
  },
  reloadPolicies: ({ guests }) => guests.reloadPolicies(),
} satisfies Partial<ApiHandlers>;
