// TPM 2.0 Library Part 3, 31.11, 31.12 and 31.14: locks of NV indices.
import { TPMA_NV } from '../../../../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../../../tpm/response-code.js';
import type { Handlers } from '../../../dispatch/handler.js';
import { checkReadAccess, checkWriteAccess } from '../../../dispatch/nv-access.js';
import { nvHas } from '../../../state/nv.js';

/** The code that `check` throws, undefined if it does not. */
function refusal(check: () => void): number | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof TpmError) return error.code;
    throw error;
  }
}

export const nvLockHandlers = {
  /** 31.11. To lock what is locked is no error. */
  NV_WriteLock: (tpm, { authHandle }, call) => {
    const index = call.nvIndex('nvIndex');
    const refused = refusal(() => {
      checkWriteAccess(authHandle, index);
    });
    if (refused === TPM_RC.NV_AUTHORIZATION) throw call.error(refused);
    if (refused !== undefined) return;
    if (!nvHas(index, TPMA_NV.WRITEDEFINE) && !nvHas(index, TPMA_NV.WRITE_STCLEAR)) throw call.error(TPM_RC.ATTRIBUTES, 'nvIndex');
    tpm.nv.setAttributes(index, TPMA_NV.WRITELOCKED);
  },

  /** 31.12 */
  NV_GlobalWriteLock: (tpm) => {
    for (const index of tpm.nv.all) if (nvHas(index, TPMA_NV.GLOBALLOCK)) tpm.nv.setAttributes(index, TPMA_NV.WRITELOCKED);
  },

  /** 31.14. To lock what is locked, or was never written, is no error. */
  NV_ReadLock: (tpm, { authHandle }, call) => {
    const index = call.nvIndex('nvIndex');
    const refused = refusal(() => {
      checkReadAccess(authHandle, index);
    });
    if (refused === TPM_RC.NV_AUTHORIZATION) throw call.error(refused);
    if (refused === TPM_RC.NV_LOCKED) return;
    if (!nvHas(index, TPMA_NV.READ_STCLEAR)) throw call.error(TPM_RC.ATTRIBUTES, 'nvIndex');
    tpm.nv.setAttributes(index, TPMA_NV.READLOCKED);
  },
} satisfies Partial<Handlers>;
