// TPM 2.0 Library Part 3, 25: dictionary attack functions.
import { command, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint32 } from '../../schema.js';
import { TPMI_RH_LOCKOUT } from '../../structures/index.js';

export const DictionaryAttackLockReset = command(TPM_CC.DictionaryAttackLockReset, 'DictionaryAttackLockReset', {
  section: '25.2',
  handles: { lockHandle: user(TPMI_RH_LOCKOUT) },
  nv: true,
});

export const DictionaryAttackParameters = command(TPM_CC.DictionaryAttackParameters, 'DictionaryAttackParameters', {
  section: '25.3',
  handles: { lockHandle: user(TPMI_RH_LOCKOUT) },
  in: { newMaxTries: uint32, newRecoveryTime: uint32, lockoutRecovery: uint32 },
  nv: true,
});
