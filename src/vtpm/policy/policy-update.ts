// TPM 2.0 Library Part 1, 19.7.3 and Part 3, 23.2.3 (PolicyUpdate): how assertions get into a policy session.
import { hash } from '../../tpm/hash.js';
import { uint32Bytes } from '../../tpm/wire.js';
import type { Session } from '../state/sessions.js';

/** `policyDigest := H(policyDigest || commandCode || parts)`. */
export function extendPolicy(session: Session, commandCode: number, ...parts: readonly Uint8Array[]): void {
  session.policy.digest = hash(session.authHash, session.policy.digest, uint32Bytes(commandCode), ...parts);
}

/** Puts the digest back to zero, as PolicyOR and PolicyAuthorize do before they extend it. */
export function clearPolicyDigest(session: Session): void {
  session.policy.digest = Buffer.alloc(session.policy.digest.length);
}

/** `PolicyUpdate` (23.2.3): extends by the Name of an entity and, in a second step, by `policyRef`, which may be empty. */
export function updatePolicy(session: Session, commandCode: number, entityName: Buffer, policyRef: Buffer): void {
  extendPolicy(session, commandCode, entityName);
  session.policy.digest = hash(session.authHash, session.policy.digest, policyRef);
}
