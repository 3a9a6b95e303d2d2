// How a guest comes to another policy: checked, noted in the audit log and stored, in this order, before it is used.
import type { PolicyChange } from '../../policy/policy-changes.js';
import type { GuestMeta } from '../../store/guest-meta.js';
import type { HostStore } from '../../store/host-store.js';
import type { AuditSink } from '../../host/audit-log.js';
import type { GuestFactory } from '../factory.js';
import type { PolicyService, PreparedPolicy } from './service.js';

export interface PolicySurroundings {
  readonly store: HostStore;
  readonly factory: GuestFactory;
  readonly audit: AuditSink;
  readonly policies: PolicyService;
}

/**
 * What a guest's policy comes to, after a change of it or of its class. Rejects with a {@link Failure} if the guest cannot have it here.
 * @param text of the policy; default what the guest has
 */
export async function preparePolicy(
  { policies, factory }: PolicySurroundings,
  meta: GuestMeta,
  text: string | null = meta.policy,
): Promise<PreparedPolicy> {
  const prepared = policies.prepare(meta, text);
  await factory.checkPolicy(meta.name, prepared.policy);
  return prepared;
}

/** Notes and stores what was prepared; gives what the guest is from now on. */
export async function storePolicy(
  host: PolicySurroundings,
  before: GuestMeta,
  { policy, meta, changes }: PreparedPolicy,
): Promise<GuestMeta> {
  if (before.policy === meta.policy && before.policyInForce === meta.policyInForce) return before;
  const { id, name } = meta;
  if (changes.length > 0) {
    const old = host.policies.inForce(before).hash;
    await host.audit.note({ event: 'policy-changed', guest: name, id, detail: `${old} -> ${policy.hash}: ${pathsOf(changes)}` });
  }
  await host.store.updateGuest(meta);
  return meta;
}

function pathsOf(changes: readonly PolicyChange[]): string {
  return changes.map(({ path }) => path).join(', ');
}
