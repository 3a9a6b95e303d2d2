// TPM 2.0 Library Part 1, 19.7: what a policy session must meet when it is used.
import { timingSafeEqual } from 'node:crypto';
import type { AuthRole } from '../../tpm/command.js';
import { TPM_CC, TPMA_NV } from '../../tpm/constants/index.js';
import { hash } from '../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { entityPolicy, type Entity } from './entity.js';
import { nvHas } from '../state/nv.js';
import type { PolicyState, Session } from '../state/session.js';
import type { Tpm } from '../tpm.js';
import type { AuthorizedCommand } from './authorized-command.js';

/**
 * Checks that the policy session authorizes this command for the entity. `TPM_RC_PCR_CHANGED`, `TPM_RC_POLICY_FAIL`,
 * `TPM_RC_EXPIRED`, `TPM_RC_POLICY_CC`, `TPM_RC_LOCALITY`, `TPM_RC_PP`, `TPM_RC_MODE`, bare.
 */
export function checkPolicy(tpm: Tpm, call: AuthorizedCommand, session: Session, entity: Entity, role: AuthRole): void {
  const { policy } = session;
  if (call.command.code === TPM_CC.PolicySecret && !policy.passwordNeeded && !policy.authValueNeeded) throw new TpmError(TPM_RC.MODE);
  if (policy.pcrCounter !== undefined && policy.pcrCounter !== tpm.pcrs.updateCounter) throw new TpmError(TPM_RC.PCR_CHANGED);
  const wanted = entityPolicy(tpm, entity);
  if (!sameDigest(policy.digest, wanted.policy) || wanted.alg !== session.authHash) throw new TpmError(TPM_RC.POLICY_FAIL);
  if (policy.timeout !== 0n && (policy.timeout < tpm.clock.time || session.epoch !== tpm.clock.epoch)) throw new TpmError(TPM_RC.EXPIRED);
  checkCommandCode(policy, call.command.code, role);
  if (policy.locality !== 0 && !localityAllowed(policy.locality, call.locality)) throw new TpmError(TPM_RC.LOCALITY);
  if (policy.physicalPresence && !tpm.presence.asserted) throw new TpmError(TPM_RC.PP);
  if (policy.bound !== undefined && !sameDigest(policy.bound.digest, boundDigest(call, policy.bound.kind, session.authHash))) {
    throw new TpmError(TPM_RC.POLICY_FAIL);
  }
  if (policy.nvWritten !== undefined && (entity.kind !== 'nv' || nvHas(entity.index, TPMA_NV.WRITTEN) !== policy.nvWritten)) {
    throw new TpmError(TPM_RC.POLICY_FAIL);
  }
}

function checkCommandCode(policy: PolicyState, commandCode: number, role: AuthRole): void {
  if (policy.commandCode !== 0) {
    if (policy.commandCode !== commandCode) throw new TpmError(TPM_RC.POLICY_CC);
  } else if (role !== 'USER') {
    throw new TpmError(TPM_RC.POLICY_FAIL);
  }
}

/** Localities 0 to 4 are bits; extended ones (from 32 on) are not served and so never match. */
function localityAllowed(allowed: number, locality: number): boolean {
  return allowed < 32 && (allowed & (1 << locality)) !== 0;
}

/** What the command has of the kind that a policy is bound to; undefined if nothing. */
function boundDigest(call: AuthorizedCommand, kind: 'cpHash' | 'nameHash' | 'templateHash', alg: number): Buffer | undefined {
  if (kind === 'cpHash') return call.cpHash(alg);
  if (kind === 'nameHash') return hash(alg, ...call.names);
  const template = templateOf(call);
  return template && hash(alg, template);
}

const templateCommands: ReadonlySet<number> = new Set([TPM_CC.Create, TPM_CC.CreatePrimary, TPM_CC.CreateLoaded]);

/** Contents of the second sized buffer of a creation command; undefined where there is none. */
function templateOf(call: AuthorizedCommand): Buffer | undefined {
  const { parameters } = call;
  if (!templateCommands.has(call.command.code) || parameters.length < 2) return undefined;
  const start = 2 + parameters.readUInt16BE(0);
  if (start + 2 > parameters.length) return undefined;
  const size = parameters.readUInt16BE(start);
  return start + 2 + size > parameters.length ? undefined : parameters.subarray(start + 2, start + 2 + size);
}

function sameDigest(a: Buffer, b: Buffer | undefined): boolean {
  return b !== undefined && a.length === b.length && timingSafeEqual(a, b);
}
