// TPM 2.0 Library Part 3, 11: session commands.
import { command, noAuth } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import {
  TPM2B_ENCRYPTED_SECRET,
  TPM2B_NONCE,
  TPMI_ALG_HASH,
  TPMI_DH_ENTITY_PLUS,
  TPMI_DH_OBJECT_PLUS,
  TPMI_SH_POLICY,
  TPMT_SYM_DEF_PLUS,
  TPM_HANDLE,
  TPM_SE_FIELD,
} from '../../structures/index.js';

export const StartAuthSession = command(TPM_CC.StartAuthSession, 'StartAuthSession', {
  section: '11.1',
  handles: { tpmKey: noAuth(TPMI_DH_OBJECT_PLUS), bind: noAuth(TPMI_DH_ENTITY_PLUS) },
  in: {
    nonceCaller: TPM2B_NONCE,
    encryptedSalt: TPM2B_ENCRYPTED_SECRET,
    sessionType: TPM_SE_FIELD,
    symmetric: TPMT_SYM_DEF_PLUS,
    authHash: TPMI_ALG_HASH,
  },
  outHandle: { sessionHandle: TPM_HANDLE },
  out: { nonceTPM: TPM2B_NONCE },
});

export const PolicyRestart = command(TPM_CC.PolicyRestart, 'PolicyRestart', {
  section: '11.2',
  handles: { sessionHandle: noAuth(TPMI_SH_POLICY) },
});
