// TPM 2.0 Library Part 1, 19: one authorization session.
import type { TPMT_SYM_DEF } from '../../tpm/structures/index.js';

/** What the policy commands of a session have asserted so far. */
export interface PolicyState {
  digest: Buffer;
  /** TPM_CC that the policy is for; 0 if for any. */
  commandCode: number;
  /** Digest that is compared at use, and with what: at most one of the three exists. */
  bound: { readonly kind: 'cpHash' | 'nameHash' | 'templateHash'; readonly digest: Buffer } | undefined;
  /** {@link Pcrs.updateCounter} at the time of PolicyPCR. */
  pcrCounter: number | undefined;
  /** Time (ms) when the authorization ends; 0n if never. */
  timeout: bigint;
  /** TPMA_LOCALITY; 0 if any. */
  locality: number;
  authValueNeeded: boolean;
  passwordNeeded: boolean;
  physicalPresence: boolean;
  /** State of TPMA_NV_WRITTEN that is asked for, if it is. */
  nvWritten: boolean | undefined;
}

/** An HMAC, policy or trial session. */
export interface Session {
  readonly handle: number;
  readonly isPolicy: boolean;
  readonly isTrial: boolean;
  readonly authHash: number;
  readonly symmetric: TPMT_SYM_DEF;
  readonly sessionKey: Buffer;
  nonceTPM: Buffer;
  /** Name and authValue of the entity that the session is bound to; undefined if unbound. */
  boundEntity: Buffer | undefined;
  /** Bound to an entity under dictionary-attack protection. */
  readonly daBound: boolean;
  readonly lockoutBound: boolean;
  /** Undefined until the session is first used for audit. */
  auditDigest: Buffer | undefined;
  /** Time (ms) when the session, or its nonce, began, and the clock's epoch then. */
  startTime: bigint;
  epoch: number;
  /** Of a policy or trial session. */
  readonly policy: PolicyState;
}
