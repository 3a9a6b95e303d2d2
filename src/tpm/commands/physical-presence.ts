// TPM 2.0 Library Part 3, 26.2: physical presence.
import { TPM_CC } from '../constants/index.js';

/**
 * Commands that `PP_Commands` may add to those that need physical presence when they are authorized by the platform.
 * `PP_Commands` itself always needs it and is not among them.
 */
export const PHYSICAL_PRESENCE_COMMANDS: ReadonlySet<number> = new Set([
  TPM_CC.NV_UndefineSpaceSpecial,
  TPM_CC.EvictControl,
  TPM_CC.HierarchyControl,
  TPM_CC.NV_UndefineSpace,
  TPM_CC.ChangeEPS,
  TPM_CC.ChangePPS,
  TPM_CC.Clear,
  TPM_CC.ClearControl,
  TPM_CC.ClockSet,
  TPM_CC.HierarchyChangeAuth,
  TPM_CC.NV_DefineSpace,
  TPM_CC.PCR_Allocate,
  TPM_CC.PCR_SetAuthPolicy,
  TPM_CC.SetPrimaryPolicy,
  TPM_CC.ClockRateAdjust,
  TPM_CC.CreatePrimary,
  TPM_CC.NV_GlobalWriteLock,
  TPM_CC.SetCommandCodeAuditStatus,
  TPM_CC.CreateLoaded,
]);
