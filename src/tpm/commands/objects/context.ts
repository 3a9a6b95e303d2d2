// TPM 2.0 Library Part 3, 28: context management.
import { command, noAuth, user } from '../../command.js';
import { CONTEXT_OVERHEAD, TPM_CC } from '../../constants/index.js';
import {
  TPMI_DH_CONTEXT,
  TPMI_DH_OBJECT,
  TPMI_DH_PERSISTENT,
  TPMI_RH_PROVISION,
  TPMS_CONTEXT,
  TPM_HANDLE,
} from '../../structures/index.js';

export const ContextSave = command(TPM_CC.ContextSave, 'ContextSave', {
  section: '28.2',
  handles: { saveHandle: noAuth(TPMI_DH_CONTEXT) },
  out: { context: TPMS_CONTEXT },
  noSessions: true,
});

export const ContextLoad = command(TPM_CC.ContextLoad, 'ContextLoad', {
  section: '28.3',
  in: { context: TPMS_CONTEXT },
  outHandle: { loadedHandle: TPM_HANDLE },
  noSessions: true,
  // Windows Server 2019 pads the context up to TPM_PT_MAX_OBJECT_CONTEXT.
  paddedBelow: CONTEXT_OVERHEAD,
});

/** The handle is a parameter, so a session can be named that does not authorize anything. */
export const FlushContext = command(TPM_CC.FlushContext, 'FlushContext', {
  section: '28.4',
  in: { flushHandle: TPMI_DH_CONTEXT },
  noSessions: true,
});

export const EvictControl = command(TPM_CC.EvictControl, 'EvictControl', {
  section: '28.5',
  handles: { auth: user(TPMI_RH_PROVISION), objectHandle: noAuth(TPMI_DH_OBJECT) },
  in: { persistentHandle: TPMI_DH_PERSISTENT },
  nv: true,
});
