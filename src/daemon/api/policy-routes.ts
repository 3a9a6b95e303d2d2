// The control API's resources for policies.
import * as v from 'valibot';
import { reasonOf } from '../../failure.js';
import { badRequest } from './bad-request.js';
import type { ApiRequest, ApiSubject, Route } from './route.js';

const newPolicy = v.strictObject({ policy: v.nullable(v.string()) });

/** A guest's policy, and what all of them share. */
export const POLICY_ROUTES: readonly Route[] = [
  { method: 'GET', path: '/v1/guests/:name/policy', run: ({ guests }, { name }) => guests.get(name).policyView() },
  { method: 'POST', path: '/v1/guests/:name/policy', run: set },
  { method: 'POST', path: '/v1/policies/reload', run: ({ guests }) => guests.reloadPolicies() },
];

async function set({ guests }: ApiSubject, { name, body }: ApiRequest): Promise<unknown> {
  const result = v.safeParse(newPolicy, body);
  if (!result.success) throw badRequest(reasonOf(result.issues[0]));
  const guest = guests.get(name);
  const changes = await guest.setPolicy(result.output.policy);
  return { ...guest.policyView(), changes };
}
