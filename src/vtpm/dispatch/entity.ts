// TPM 2.0 Library Part 1, 16 (Names) and 19.2 (authorization roles): the things that a handle can stand for.
import {
  handleType,
  HANDLE_RANGE,
  inRange,
  nvType,
  TPM_ALG,
  TPM_CC,
  TPM_HT,
  TPM_NT,
  TPM_RH,
  TPM_RS,
  TPMA_NV,
  TPMA_OBJECT,
} from '../../tpm/constants/index.js';
import type { AuthRole } from '../../tpm/command.js';
import { nameOfHandle } from '../../tpm/name.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import type { Sequence } from '../sequences/sequence.js';
import type { Hierarchy } from '../state/hierarchies.js';
import { isPin, nvHas, type NvIndex } from '../state/nv.js';
import { hasAttribute } from '../state/objects.js';
import type { TpmObject } from '../state/object.js';
import type { Session } from '../state/session.js';
import type { Tpm } from '../tpm.js';

/** What a handle in a command's handle area stands for. */
export type Entity =
  | { readonly kind: 'hierarchy'; readonly handle: number; readonly hierarchy: Hierarchy }
  | { readonly kind: 'object'; readonly handle: number; readonly object: TpmObject }
  | { readonly kind: 'sequence'; readonly handle: number; readonly sequence: Sequence }
  | { readonly kind: 'nv'; readonly handle: number; readonly index: NvIndex }
  | { readonly kind: 'pcr'; readonly handle: number }
  | { readonly kind: 'session'; readonly handle: number; readonly session: Session }
  | { readonly kind: 'other'; readonly handle: number };

const noAuth = Buffer.alloc(0);

/**
 * What `handle` stands for, if it is there and its hierarchy enabled. `TPM_RC_REFERENCE_H0` (to be moved to the handle's position),
 * `TPM_RC_HANDLE`, `TPM_RC_HIERARCHY`, `TPM_RC_VALUE`, bare.
 */
export function resolveEntity(tpm: Tpm, handle: number, commandCode: number): Entity {
  switch (handleType(handle)) {
    case TPM_HT.PERMANENT:
      return resolvePermanent(tpm, handle);
    case TPM_HT.TRANSIENT:
      return resolveTransient(tpm, handle);
    case TPM_HT.PERSISTENT:
      return { kind: 'object', handle, object: requirePersistent(tpm, handle, commandCode) };
    case TPM_HT.HMAC_SESSION:
    case TPM_HT.POLICY_SESSION:
      return resolveSession(tpm, handle);
    case TPM_HT.NV_INDEX:
      return { kind: 'nv', handle, index: requireNvIndex(tpm, handle) };
    case TPM_HT.PCR:
      return { kind: 'pcr', handle };
    default:
      throw new TpmError(TPM_RC.VALUE);
  }
}

function resolvePermanent(tpm: Tpm, handle: number): Entity {
  if (handle === TPM_RS.PW) return { kind: 'other', handle };
  const hierarchy = tpm.hierarchies.find(handle);
  if (hierarchy === undefined) throw new TpmError(TPM_RC.VALUE);
  if (!hierarchy.enabled) throw new TpmError(TPM_RC.HIERARCHY);
  return { kind: 'hierarchy', handle, hierarchy };
}

function resolveTransient(tpm: Tpm, handle: number): Entity {
  const loaded = tpm.objects.find(handle);
  if (loaded === undefined) throw new TpmError(TPM_RC.REFERENCE_H0);
  return loaded.kind === 'object' ? { kind: 'object', handle, object: loaded } : { kind: 'sequence', handle, sequence: loaded };
}

function resolveSession(tpm: Tpm, handle: number): Entity {
  const session = tpm.sessions.find(handle);
  if (session === undefined) throw new TpmError(tpm.sessions.isOtherType(handle) ? TPM_RC.HANDLE : TPM_RC.REFERENCE_H0);
  return { kind: 'session', handle, session };
}

/** A persistent object whose hierarchy is enabled. `TPM_RC_HANDLE` otherwise. */
function requirePersistent(tpm: Tpm, handle: number, commandCode: number): TpmObject {
  const { platform, owner, endorsement } = tpm.hierarchies;
  const holder = inRange(handle, HANDLE_RANGE.PLATFORM_PERSISTENT) ? platform : owner;
  const object = tpm.persistent.find(handle);
  if (!holder.enabled || object === undefined) throw new TpmError(TPM_RC.HANDLE);
  const hidden = object.hierarchy === TPM_RH.ENDORSEMENT && !endorsement.enabled && commandCode !== TPM_CC.EvictControl;
  if (hidden) throw new TpmError(TPM_RC.HANDLE);
  return object;
}

/** An NV index whose hierarchy is enabled. `TPM_RC_HANDLE` otherwise. */
function requireNvIndex(tpm: Tpm, handle: number): NvIndex {
  const index = tpm.nv.find(handle);
  const { owner, platformNvEnabled } = tpm.hierarchies;
  if (index === undefined) throw new TpmError(TPM_RC.HANDLE);
  if (!(nvHas(index, TPMA_NV.PLATFORMCREATE) ? platformNvEnabled : owner.enabled)) throw new TpmError(TPM_RC.HANDLE);
  return index;
}

/** Name of the entity (Part 1, 16). */
export function entityName(tpm: Tpm, entity: Entity): Buffer {
  switch (entity.kind) {
    case 'object':
      return entity.object.name;
    case 'nv':
      return tpm.nv.nameOf(entity.index);
    case 'sequence':
      return Buffer.alloc(0);
    default:
      return nameOfHandle(entity.handle);
  }
}

/** authValue of the entity, without trailing zeros; a view. */
export function entityAuth(tpm: Tpm, entity: Entity): Buffer {
  switch (entity.kind) {
    case 'hierarchy':
      return entity.handle === TPM_RH.NULL ? noAuth : entity.hierarchy.authValue;
    case 'object':
      return entity.object.authValue;
    case 'sequence':
      return entity.sequence.authValue;
    case 'nv':
      return entity.index.authValue;
    case 'pcr':
      return tpm.pcrs.hasGroupAuth(entity.handle) ? tpm.pcrs.groupAuth : noAuth;
    default:
      return noAuth;
  }
}

/** authPolicy of the entity and the hash algorithm that a session must have to satisfy it. */
export function entityPolicy(tpm: Tpm, entity: Entity): { alg: number; policy: Buffer } {
  switch (entity.kind) {
    case 'hierarchy':
      return { alg: entity.hierarchy.policyAlg, policy: entity.hierarchy.policy };
    case 'object':
      return { alg: entity.object.publicArea.nameAlg, policy: entity.object.publicArea.authPolicy };
    case 'nv':
      return { alg: entity.index.publicArea.nameAlg, policy: entity.index.publicArea.authPolicy };
    case 'pcr':
      return tpm.pcrs.hasGroupPolicy(entity.handle) ? tpm.pcrs.groupPolicy : { alg: TPM_ALG.NULL, policy: noAuth };
    default:
      return { alg: TPM_ALG.NULL, policy: noAuth };
  }
}

/** Hierarchy whose proof the entity's tickets are made with: its own, and for lockout and PCRs the owner's. */
export function entityHierarchy(entity: Entity): number {
  switch (entity.kind) {
    case 'hierarchy':
      return entity.handle === TPM_RH.LOCKOUT ? TPM_RH.OWNER : entity.handle;
    case 'object':
      return entity.object.hierarchy;
    case 'sequence':
      return TPM_RH.NULL;
    case 'nv':
      return nvHas(entity.index, TPMA_NV.PLATFORMCREATE) ? TPM_RH.PLATFORM : TPM_RH.OWNER;
    default:
      return TPM_RH.OWNER;
  }
}

/** Whether authorization failures of the entity do not count against dictionary-attack protection. */
export function isDaExempt(entity: Entity): boolean {
  switch (entity.kind) {
    case 'hierarchy':
      return entity.handle !== TPM_RH.LOCKOUT;
    case 'object':
      return hasAttribute(entity.object, TPMA_OBJECT.noDA);
    case 'nv':
      return nvHas(entity.index, TPMA_NV.NO_DA);
    default:
      return entity.kind === 'pcr' || entity.kind === 'sequence';
  }
}

/** Whether nothing but a policy session can authorize the role (Part 1, 19.2): PCRs with a policy have no other USER. */
export function needsPolicySession(tpm: Tpm, entity: Entity, role: AuthRole): boolean {
  if (role === 'USER') return entity.kind === 'pcr' && entityPolicy(tpm, entity).alg !== TPM_ALG.NULL;
  if (role === 'DUP') return true;
  if (entity.kind === 'sequence') return false;
  return entity.kind !== 'object' || hasAttribute(entity.object, TPMA_OBJECT.adminWithPolicy);
}

const nvWriteCommands: ReadonlySet<number> = new Set([
  TPM_CC.NV_Write,
  TPM_CC.NV_Increment,
  TPM_CC.NV_SetBits,
  TPM_CC.NV_Extend,
  TPM_CC.NV_WriteLock,
]);

/** Whether the entity may be authorized with its authValue for this command. */
export function isAuthValueAvailable(entity: Entity, commandCode: number, role: AuthRole): boolean {
  switch (entity.kind) {
    case 'object':
      return (
        entity.object.privatePart !== undefined &&
        (hasAttribute(entity.object, TPMA_OBJECT.userWithAuth) ||
          (role === 'ADMIN' && !hasAttribute(entity.object, TPMA_OBJECT.adminWithPolicy)))
      );
    case 'nv':
      return nvAuthAvailable(entity.index, commandCode);
    default:
      return entity.kind === 'hierarchy' || entity.kind === 'sequence' || entity.kind === 'pcr';
  }
}

function nvAuthAvailable(index: NvIndex, commandCode: number): boolean {
  if (nvWriteCommands.has(commandCode)) return nvHas(index, TPMA_NV.AUTHWRITE);
  if (!isPin(index)) return nvHas(index, TPMA_NV.AUTHREAD);
  return nvHas(index, TPMA_NV.WRITTEN) && index.data.readUInt32BE(0) < index.data.readUInt32BE(4);
}

/** Whether the entity may be authorized with a policy session for this command. */
export function isPolicyAvailable(tpm: Tpm, entity: Entity, commandCode: number, role: AuthRole): boolean {
  switch (entity.kind) {
    case 'hierarchy':
      return entity.hierarchy.policy.length > 0;
    case 'object':
      return entity.object.privatePart !== undefined;
    case 'nv':
      if (entity.index.publicArea.authPolicy.length === 0) return false;
      if (needsPolicySession(tpm, entity, role)) return true;
      return nvHas(entity.index, nvWriteCommands.has(commandCode) ? TPMA_NV.POLICYWRITE : TPMA_NV.POLICYREAD);
    case 'pcr':
      return tpm.pcrs.hasGroupPolicy(entity.handle);
    default:
      return false;
  }
}

/**
 * Name and authValue as one value, to recognize the entity that a session is bound to (Part 1, 19.6.12): 68 bytes, the
 * authValue XORed to the end.
 */
export function bindValue(tpm: Tpm, entity: Entity): Buffer {
  const value = Buffer.alloc(68);
  entityName(tpm, entity).copy(value);
  const auth = entityAuth(tpm, entity);
  const start = value.length - auth.length;
  for (const [i, byte] of auth.entries()) value[start + i] = (value[start + i] ?? 0) ^ byte;
  return value;
}

/** After the authValue of a PIN index was tried: counts as its type asks (Part 1, 37.2.8 and 37.2.9). */
export function notePinUse(tpm: Tpm, entity: Entity, success: boolean): void {
  if (entity.kind !== 'nv' || !isPin(entity.index) || !nvHas(entity.index, TPMA_NV.WRITTEN)) return;
  const { index } = entity;
  const passes = nvType(index.publicArea.attributes) === TPM_NT.PIN_PASS;
  if (passes && !success) return;
  if (nvHas(index, TPMA_NV.ORDERLY)) tpm.power.disorder();
  if (!success) tpm.failedAuthorizations.fail({ kind: 'pin', nvIndex: index.handle }, tpm);
  else tpm.nv.setPinCount(index, passes ? (index.data.readUInt32BE(0) + 1) >>> 0 : 0);
}
