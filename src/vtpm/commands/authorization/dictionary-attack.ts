// TPM 2.0 Library Part 3, 25: dictionary attack functions.
import type { DictionaryAttackLockReset, DictionaryAttackParameters } from '../../../tpm/commands/index.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';

/** 25.2 */
const lockReset: Handler<typeof DictionaryAttackLockReset> = ({ dictionaryAttack }) => {
  dictionaryAttack.reset();
};

/** 25.3 */
const parameters: Handler<typeof DictionaryAttackParameters> = ({ dictionaryAttack }, request) => {
  dictionaryAttack.setParameters(request.newMaxTries, request.newRecoveryTime, request.lockoutRecovery);
};

export const dictionaryAttackHandlers = {
  DictionaryAttackLockReset: lockReset,
  DictionaryAttackParameters: parameters,
} satisfies Partial<Handlers>;
