// TPM 2.0 Library Part 3, 26: miscellaneous management functions.
import type { PP_Commands, SetAlgorithmSet } from '../../../tpm/commands/index.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';

/** 26.2: needs physical presence itself, or the authorization fails before it comes here. */
const ppCommands: Handler<typeof PP_Commands> = (tpm, { setList, clearList }) => {
  tpm.presence.change(setList, clearList);
};

/** 26.3 */
const setAlgorithmSet: Handler<typeof SetAlgorithmSet> = (tpm, { algorithmSet }) => {
  tpm.algorithmSet.set(algorithmSet);
};

export const managementHandlers = { PP_Commands: ppCommands, SetAlgorithmSet: setAlgorithmSet } satisfies Partial<Handlers>;
