// TPM 2.0 Library Part 3, 26: miscellaneous management functions.
import type { PP_Commands, SetAlgorithmSet } from '../../../tpm/commands/index.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';

/** 26.2: needs physical presence itself, which is never asserted, so the authorization fails before it comes here. */
const ppCommands: Handler<typeof PP_Commands> = (_tpm, _request, call) => {
  throw call.error(TPM_RC.PP, 'auth');
};

/** 26.3 */
const setAlgorithmSet: Handler<typeof SetAlgorithmSet> = (tpm, { algorithmSet }) => {
  tpm.algorithmSet.set(algorithmSet);
};

export const managementHandlers = { PP_Commands: ppCommands, SetAlgorithmSet: setAlgorithmSet } satisfies Partial<Handlers>;
