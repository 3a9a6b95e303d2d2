// TPM 2.0 Library Part 3, 20: signing and signature verification.
import { command, noAuth, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import {
  TPM2B_DIGEST,
  TPMI_DH_OBJECT,
  TPMT_SIGNATURE,
  TPMT_SIG_SCHEME_PLUS,
  TPMT_TK_HASHCHECK,
  TPMT_TK_VERIFIED,
} from '../../structures/index.js';

export const VerifySignature = command(TPM_CC.VerifySignature, 'VerifySignature', {
  section: '20.1',
  handles: { keyHandle: noAuth(TPMI_DH_OBJECT) },
  in: { digest: TPM2B_DIGEST, signature: TPMT_SIGNATURE },
  out: { validation: TPMT_TK_VERIFIED },
});

export const Sign = command(TPM_CC.Sign, 'Sign', {
  section: '20.2',
  handles: { keyHandle: user(TPMI_DH_OBJECT) },
  in: { digest: TPM2B_DIGEST, inScheme: TPMT_SIG_SCHEME_PLUS, validation: TPMT_TK_HASHCHECK },
  out: { signature: TPMT_SIGNATURE },
});
