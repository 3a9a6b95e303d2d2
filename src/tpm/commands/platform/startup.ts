// TPM 2.0 Library Part 3, 9: start-up.
import { command } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { TPM_SU_FIELD } from '../../structures/index.js';

export const Startup = command(TPM_CC.Startup, 'Startup', {
  section: '9.3',
  in: { startupType: TPM_SU_FIELD },
  nv: true,
  noSessions: true,
});

export const Shutdown = command(TPM_CC.Shutdown, 'Shutdown', { section: '9.4', in: { shutdownType: TPM_SU_FIELD }, nv: true });
