// TPM 2.0 Library Part 3, 31.3 to 31.6 and 31.15: NV indices as such.
import { MAX_NV_BUFFER_SIZE, nvType, TPM_NT, TPM_RH, TPMA_NV } from '../../../../tpm/constants/index.js';
import { digestSize } from '../../../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../../../tpm/response-code.js';
import { trimAuth } from '../../../../tpm/session-crypto.js';
import type { TPMS_NV_PUBLIC } from '../../../../tpm/structures/index.js';
import type { Handlers } from '../../../dispatch/handler.js';
import { nvHas } from '../../../state/nv.js';

const knownTypes: readonly number[] = Object.values(TPM_NT);
/** What counters, bits and PINs have, in bytes. */
const NUMBER_SIZE = 8;
const has = (attributes: number, mask: number): boolean => (attributes & mask) !== 0;

const ANY_READ = TPMA_NV.OWNERREAD | TPMA_NV.PPREAD | TPMA_NV.AUTHREAD | TPMA_NV.POLICYREAD;
const ANY_WRITE = TPMA_NV.OWNERWRITE | TPMA_NV.PPWRITE | TPMA_NV.AUTHWRITE | TPMA_NV.POLICYWRITE;

/** Type and size of a new index. `TPM_RC_ATTRIBUTES`, `TPM_RC_SIZE`. */
function checkType({ attributes, dataSize, nameAlg }: TPMS_NV_PUBLIC): void {
  const type = nvType(attributes);
  if (!knownTypes.includes(type)) throw new TpmError(TPM_RC.ATTRIBUTES);
  if (type === TPM_NT.ORDINARY) return;
  if (dataSize !== (type === TPM_NT.EXTEND ? digestSize(nameAlg) : NUMBER_SIZE)) throw new TpmError(TPM_RC.SIZE);
}

/** Combinations of attributes that make no sense. `TPM_RC_ATTRIBUTES`. */
function checkAttributes(attributes: number): void {
  const type = nvType(attributes);
  const pin = type === TPM_NT.PIN_FAIL || type === TPM_NT.PIN_PASS;
  const wrong =
    (type === TPM_NT.COUNTER && has(attributes, TPMA_NV.CLEAR_STCLEAR)) ||
    (type === TPM_NT.PIN_FAIL && !has(attributes, TPMA_NV.NO_DA)) ||
    (pin && has(attributes, TPMA_NV.AUTHWRITE | TPMA_NV.GLOBALLOCK | TPMA_NV.WRITEDEFINE)) ||
    has(attributes, TPMA_NV.WRITTEN | TPMA_NV.WRITELOCKED | TPMA_NV.READLOCKED) ||
    !has(attributes, ANY_READ) ||
    !has(attributes, ANY_WRITE) ||
    (has(attributes, TPMA_NV.CLEAR_STCLEAR) && has(attributes, TPMA_NV.WRITEDEFINE));
  if (wrong) throw new TpmError(TPM_RC.ATTRIBUTES);
}

export const nvSpaceHandlers = {
  /** 31.3 */
  NV_DefineSpace: (tpm, { authHandle, auth, publicInfo }, call) => {
    const { attributes, authPolicy, dataSize, nameAlg, nvIndex } = publicInfo;
    if (authPolicy.length !== 0 && authPolicy.length !== digestSize(nameAlg)) throw call.error(TPM_RC.SIZE, 'publicInfo');
    const authValue = trimAuth(auth);
    if (authValue.length > digestSize(nameAlg)) throw call.error(TPM_RC.SIZE, 'auth');
    const byPlatform = authHandle === TPM_RH.PLATFORM;
    if (byPlatform && !tpm.hierarchies.platformNvEnabled) throw call.error(TPM_RC.HIERARCHY, 'authHandle');
    call.at('publicInfo', () => {
      checkType(publicInfo);
      checkAttributes(attributes);
    });
    if (has(attributes, TPMA_NV.PLATFORMCREATE) !== byPlatform) throw call.error(TPM_RC.ATTRIBUTES, 'authHandle');
    if (has(attributes, TPMA_NV.POLICY_DELETE) && !byPlatform) throw call.error(TPM_RC.ATTRIBUTES, 'publicInfo');
    if (dataSize > MAX_NV_BUFFER_SIZE && has(attributes, TPMA_NV.WRITEALL)) throw call.error(TPM_RC.SIZE, 'publicInfo');
    if (tpm.nv.find(nvIndex) !== undefined) throw call.error(TPM_RC.NV_DEFINED);
    tpm.nv.define(publicInfo, authValue);
  },

  /** 31.4 */
  NV_UndefineSpace: (tpm, { authHandle }, call) => {
    const index = call.nvIndex('nvIndex');
    if (nvHas(index, TPMA_NV.POLICY_DELETE)) throw call.error(TPM_RC.ATTRIBUTES, 'nvIndex');
    if (authHandle === TPM_RH.OWNER && nvHas(index, TPMA_NV.PLATFORMCREATE)) throw call.error(TPM_RC.NV_AUTHORIZATION);
    tpm.nv.undefine(index);
  },

  /** 31.5. The index is gone when the response is made, so its authValue is not part of the response's HMAC key. */
  NV_UndefineSpaceSpecial: (tpm, _request, call) => {
    const index = call.nvIndex('nvIndex');
    if (!nvHas(index, TPMA_NV.POLICY_DELETE)) throw call.error(TPM_RC.ATTRIBUTES, 'nvIndex');
    tpm.nv.undefine(index);
    for (const use of call.sessions) if (use.entity?.handle === index.handle) use.entity = undefined;
  },

  /** 31.6 */
  NV_ReadPublic: (tpm, _request, call) => {
    const index = call.nvIndex('nvIndex');
    return { nvPublic: index.publicArea, nvName: tpm.nv.nameOf(index) };
  },

  /** 31.15 */
  NV_ChangeAuth: (tpm, { newAuth }, call) => {
    const index = call.nvIndex('nvIndex');
    const authValue = trimAuth(newAuth);
    if (authValue.length > digestSize(index.publicArea.nameAlg)) throw call.error(TPM_RC.SIZE, 'newAuth');
    tpm.nv.changeAuth(index, authValue);
  },
} satisfies Partial<Handlers>;
