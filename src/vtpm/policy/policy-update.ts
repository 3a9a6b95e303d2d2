// TPM 2.0 Library Part 1, 19.7.3: how assertions get into a policy session.
import type { Command } from '../../tpm/command.js';
import { extendPolicyDigest, type PolicyTerms } from '../../tpm/policy-digest.js';
import type { Session } from '../state/session.js';

/** Extends the session's digest by a policy command. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- any command there is
export function extendPolicy<C extends Command<any, any, any, any>>(session: Session, of: C, terms: PolicyTerms<C>): void {
  session.policy.digest = extendPolicyDigest(session.authHash, session.policy.digest, of, terms);
}
