// TPM 2.0 Library Part 3, 24: hierarchy commands.
import type {
  ChangeEPS,
  ChangePPS,
  Clear,
  ClearControl,
  CreatePrimary,
  HierarchyChangeAuth,
  HierarchyControl,
  SetPrimaryPolicy,
} from '../../../tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPMA_NV } from '../../../tpm/constants/index.js';
import { digestSize } from '../../../tpm/hash.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import { trimAuth } from '../../../tpm/session-crypto.js';
import { YES } from '../../../tpm/structures/index.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';
import { describeCreation } from '../../objects/creation.js';
import { checkAuthSize, makeObject, obtainPrimary } from '../../objects/new-object.js';
import { checkCreation } from '../../objects/template-checks.js';
import type { Hierarchy } from '../../state/hierarchies.js';
import { nvHas } from '../../state/nv.js';
import { belongsTo } from '../../state/objects.js';
import type { Tpm } from '../../tpm.js';

/** 24.1 */
const createPrimary: Handler<typeof CreatePrimary> = async (tpm, { inSensitive, inPublic, outsideInfo, creationPCR }, call) => {
  tpm.objects.requireSlot();
  const hierarchy = call.hierarchy('primaryHandle');
  call.at('inPublic', () => {
    checkCreation(undefined, inPublic, inSensitive.data.length);
  });
  call.at('inSensitive', () => {
    checkAuthSize(inSensitive.userAuth, inPublic.nameAlg);
  });
  const { publicArea, privatePart } = await obtainPrimary(tpm, hierarchy, inPublic, inSensitive.data);
  const place = { hierarchy: hierarchy.handle, primary: true, external: false };
  const object = makeObject(place, publicArea, inSensitive.userAuth, privatePart);
  const creation = describeCreation(tpm, object, call.entity('primaryHandle'), { outsideInfo, creationPCR, locality: call.locality });
  return { objectHandle: tpm.objects.add(object), outPublic: publicArea, ...creation, name: object.name };
};

/** Who may change what, besides the platform, which may change everything (24.2). */
const enablers: Readonly<Record<number, number | undefined>> = {
  [TPM_RH.OWNER]: TPM_RH.OWNER,
  [TPM_RH.ENDORSEMENT]: TPM_RH.ENDORSEMENT,
};

/** 24.2 */
const hierarchyControl: Handler<typeof HierarchyControl> = (tpm, { authHandle, enable, state }, call) => {
  const byPlatform = authHandle === TPM_RH.PLATFORM;
  const wanted = state === YES;
  if (!byPlatform && authHandle !== enablers[enable]) throw call.error(TPM_RC.AUTH_TYPE);
  if (!byPlatform && wanted && !isEnabled(tpm, enable)) throw call.error(TPM_RC.AUTH_TYPE);
  if (isEnabled(tpm, enable) === wanted) return;
  tpm.power.disorder();
  if (enable === TPM_RH.PLATFORM_NV) {
    tpm.hierarchies.platformNvEnabled = wanted;
    return;
  }
  tpm.hierarchies.get(enable).enabled = wanted;
  if (!wanted) flushObjects(tpm, enable);
};

function isEnabled({ hierarchies }: Tpm, handle: number): boolean {
  return handle === TPM_RH.PLATFORM_NV ? hierarchies.platformNvEnabled : hierarchies.get(handle).enabled;
}

function flushObjects(tpm: Tpm, hierarchy: number): void {
  tpm.objects.flushWhere((object) => belongsTo(object, hierarchy));
}

/** 24.3 */
const setPrimaryPolicy: Handler<typeof SetPrimaryPolicy> = (tpm, { authHandle, authPolicy, hashAlg }, call) => {
  if (authPolicy.length !== digestSize(hashAlg)) throw call.error(TPM_RC.SIZE, 'authPolicy');
  const hierarchy = call.hierarchy('authHandle');
  hierarchy.policyAlg = hashAlg;
  hierarchy.policy = Buffer.from(authPolicy);
  if (authHandle === TPM_RH.PLATFORM) tpm.power.disorder();
  else tpm.hierarchies.changed();
};

/** 24.4 */
const changePPS: Handler<typeof ChangePPS> = (tpm) => {
  const { platform } = tpm.hierarchies;
  tpm.hierarchies.renew(platform);
  clearPolicy(platform);
  tpm.pcrs.setGroupPolicy();
  forgetKeys(tpm, TPM_RH.PLATFORM);
  tpm.hierarchies.changed();
  tpm.power.disorder();
};

/** 24.5 */
const changeEPS: Handler<typeof ChangeEPS> = (tpm) => {
  const { endorsement } = tpm.hierarchies;
  tpm.hierarchies.renew(endorsement);
  endorsement.enabled = true;
  clearAuth(endorsement);
  clearPolicy(endorsement);
  forgetKeys(tpm, TPM_RH.ENDORSEMENT);
  tpm.hierarchies.changed();
  tpm.power.disorder();
};

/** Keys of a hierarchy whose seed has changed: loaded, persistent and to be created again. What is stored of them cannot be read any more. */
function forgetKeys(tpm: Tpm, hierarchy: number): void {
  tpm.durable.eraseOld();
  flushObjects(tpm, hierarchy);
  tpm.persistent.removeHierarchy(hierarchy);
  tpm.primaries.forget(hierarchy);
}

function clearAuth(hierarchy: Hierarchy): void {
  hierarchy.authValue.fill(0);
  hierarchy.authValue = Buffer.alloc(0);
}

function clearPolicy(hierarchy: Hierarchy): void {
  hierarchy.policyAlg = TPM_ALG.NULL;
  hierarchy.policy = Buffer.alloc(0);
}

/** 24.6. The endorsement seed stays, so that an endorsement key with a certificate can be created again. */
const clear: Handler<typeof Clear> = (tpm, _request, call) => {
  const { hierarchies } = tpm;
  const { owner, endorsement, lockout } = hierarchies;
  if (hierarchies.disableClear) throw call.error(TPM_RC.DISABLED);
  hierarchies.renew(owner);
  hierarchies.renewProof(endorsement);
  owner.enabled = true;
  endorsement.enabled = true;
  for (const hierarchy of [owner, endorsement, lockout]) {
    clearAuth(hierarchy);
    clearPolicy(hierarchy);
  }
  hierarchies.changed();
  forgetKeys(tpm, TPM_RH.OWNER);
  flushObjects(tpm, TPM_RH.ENDORSEMENT);
  tpm.persistent.removeHierarchy(TPM_RH.ENDORSEMENT);
  for (const index of [...tpm.nv.all]) if (!nvHas(index, TPMA_NV.PLATFORMCREATE)) tpm.nv.undefine(index);
  tpm.dictionaryAttack.clear();
  tpm.clock.clear();
  tpm.commandAudit.clear();
  tpm.pcrs.groupAuth = Buffer.alloc(0);
  tpm.pcrs.changed(0);
  tpm.power.disorder();
};

/** 24.7 */
const clearControl: Handler<typeof ClearControl> = (tpm, { auth, disable }, call) => {
  const disabled = disable === YES;
  if (auth === TPM_RH.LOCKOUT && !disabled) throw call.error(TPM_RC.AUTH_FAIL);
  tpm.hierarchies.disableClear = disabled;
  tpm.hierarchies.changed();
};

/** 24.8 */
const hierarchyChangeAuth: Handler<typeof HierarchyChangeAuth> = (tpm, { authHandle, newAuth }, call) => {
  const hierarchy = call.hierarchy('authHandle');
  hierarchy.authValue.fill(0);
  hierarchy.authValue = Buffer.from(trimAuth(newAuth));
  if (authHandle === TPM_RH.PLATFORM) tpm.power.disorder();
  else tpm.hierarchies.changed();
};

export const hierarchyHandlers = {
  CreatePrimary: createPrimary,
  HierarchyControl: hierarchyControl,
  SetPrimaryPolicy: setPrimaryPolicy,
  ChangePPS: changePPS,
  ChangeEPS: changeEPS,
  Clear: clear,
  ClearControl: clearControl,
  HierarchyChangeAuth: hierarchyChangeAuth,
} satisfies Partial<Handlers>;
