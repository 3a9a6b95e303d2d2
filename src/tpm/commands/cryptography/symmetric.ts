// TPM 2.0 Library Part 3, 15: symmetric primitives.
import { command, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import {
  TPM2B_DIGEST,
  TPM2B_IV,
  TPM2B_MAX_BUFFER,
  TPMI_ALG_CIPHER_MODE_PLUS,
  TPMI_ALG_HASH,
  TPMI_ALG_MAC_SCHEME_PLUS,
  TPMI_DH_OBJECT,
  TPMI_RH_HIERARCHY_PLUS,
  TPMI_YES_NO,
  TPMT_TK_HASHCHECK,
} from '../../structures/index.js';

export const EncryptDecrypt = command(TPM_CC.EncryptDecrypt, 'EncryptDecrypt', {
  section: '15.2',
  handles: { keyHandle: user(TPMI_DH_OBJECT) },
  in: { decrypt: TPMI_YES_NO, mode: TPMI_ALG_CIPHER_MODE_PLUS, ivIn: TPM2B_IV, inData: TPM2B_MAX_BUFFER },
  out: { outData: TPM2B_MAX_BUFFER, ivOut: TPM2B_IV },
});

export const EncryptDecrypt2 = command(TPM_CC.EncryptDecrypt2, 'EncryptDecrypt2', {
  section: '15.3',
  handles: { keyHandle: user(TPMI_DH_OBJECT) },
  in: { inData: TPM2B_MAX_BUFFER, decrypt: TPMI_YES_NO, mode: TPMI_ALG_CIPHER_MODE_PLUS, ivIn: TPM2B_IV },
  out: { outData: TPM2B_MAX_BUFFER, ivOut: TPM2B_IV },
});

export const Hash = command(TPM_CC.Hash, 'Hash', {
  section: '15.4',
  in: { data: TPM2B_MAX_BUFFER, hashAlg: TPMI_ALG_HASH, hierarchy: TPMI_RH_HIERARCHY_PLUS },
  out: { outHash: TPM2B_DIGEST, validation: TPMT_TK_HASHCHECK },
});

/** `HMAC`, and `MAC` (15.6), which has the same code and layout but calls them `inScheme` and `outMAC`. */
export const HMAC = command(TPM_CC.HMAC, 'HMAC', {
  section: '15.5',
  handles: { handle: user(TPMI_DH_OBJECT) },
  in: { buffer: TPM2B_MAX_BUFFER, hashAlg: TPMI_ALG_MAC_SCHEME_PLUS },
  out: { outHMAC: TPM2B_DIGEST },
});
