// A guest's policy, as the control API shows it.
import type { Answer } from '../../api/endpoint.js';
import type { Api } from '../../api/endpoints.js';
import { reasonOf } from '../../failure.js';
import type { GuestMeta } from '../../store/guest-meta.js';
import type { OpenedGuest } from '../factory.js';
import type { PolicyService } from './service.js';

/** What users see of a guest's policy. */
export type PolicyView = Answer<Api['showPolicy']>;

/** @param opened the guest's TPM, if the guest runs: then the policy is the one that it has */
export function viewPolicy(policies: PolicyService, { name, policy: text }: GuestMeta, opened: OpenedGuest | undefined): PolicyView {
  const pending = opened?.policyPending() ?? false;
  try {
    const policy = opened?.policy() ?? policies.resolve(text, `of guest ${name}`);
    const { settings, hash } = policy;
    return { guest: name, text, settings, hash, limits: policies.limitsFor(policy), reason: null, pending };
  } catch (error) {
    return { guest: name, text, settings: null, hash: null, limits: null, reason: reasonOf(error), pending };
  }
}
