// A guest's policy, as the control API shows it.
import { reasonOf } from '../../failure.js';
import type { Limits } from '../../config/limits.js';
import type { PolicyFile } from '../../policy/policy-file.js';
import type { GuestMeta } from '../../store/guest-meta.js';
import type { OpenedGuest } from '../factory.js';
import type { PolicyService } from './service.js';

/** What users see of a guest's policy. */
export interface PolicyView {
  readonly guest: string;
  /** Text of its policy file; null if it has none. */
  readonly text: string | null;
  /** What it comes to with its class, and the SHA-256 of that in hexadecimal; null if it cannot be used. */
  readonly settings: PolicyFile | null;
  readonly hash: string | null;
  readonly limits: Limits | null;
  /** Why it cannot be used; null otherwise. */
  readonly reason: string | null;
  /** Whether a part of it waits for the guest's next reset. */
  readonly pending: boolean;
}

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
