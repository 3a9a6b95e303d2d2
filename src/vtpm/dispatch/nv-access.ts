// TPM 2.0 Library Part 1, 37.2.6 and 37.2.7: who may read and write an NV index, and when.
import { TPM_RH, TPMA_NV } from '../../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { nvHas, type NvIndex } from '../state/nv.js';

/** Attributes that let the owner, the platform do something; the index's own authorization was checked when it was used. */
function checkAuthorizer(authHandle: number, index: NvIndex, ownerMask: number, platformMask: number): void {
  const allowed =
    authHandle === TPM_RH.OWNER
      ? nvHas(index, ownerMask)
      : authHandle === TPM_RH.PLATFORM
        ? nvHas(index, platformMask)
        : authHandle === index.handle;
  if (!allowed) throw new TpmError(TPM_RC.NV_AUTHORIZATION);
}

/**
 * Whether the index may be read with the authorization of `authHandle`. `TPM_RC_NV_LOCKED`, `TPM_RC_NV_AUTHORIZATION` and
 * `TPM_RC_NV_UNINITIALIZED`, in this order.
 */
export function checkReadAccess(authHandle: number, index: NvIndex): void {
  if (nvHas(index, TPMA_NV.READLOCKED)) throw new TpmError(TPM_RC.NV_LOCKED);
  checkAuthorizer(authHandle, index, TPMA_NV.OWNERREAD, TPMA_NV.PPREAD);
  if (!nvHas(index, TPMA_NV.WRITTEN)) throw new TpmError(TPM_RC.NV_UNINITIALIZED);
}

/** Whether the index may be written with the authorization of `authHandle`. `TPM_RC_NV_LOCKED` and `TPM_RC_NV_AUTHORIZATION`, in this order. */
export function checkWriteAccess(authHandle: number, index: NvIndex): void {
  if (nvHas(index, TPMA_NV.WRITELOCKED)) throw new TpmError(TPM_RC.NV_LOCKED);
  checkAuthorizer(authHandle, index, TPMA_NV.OWNERWRITE, TPMA_NV.PPWRITE);
}
