// TPM 2.0 Library Part 3, 14.2: encryption for a public RSA key.
import { TPM_ALG } from '../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import type { TPMT_PUBLIC, TPMT_RSA_DECRYPT } from '../tpm/structures/index.js';
import { rsaEncryptMessage, type RsaScheme } from './rsa.js';

/** The scheme and its hash; `TPM_ALG_NULL` where it has none. */
export function rsaEncryptionScheme(scheme: TPMT_RSA_DECRYPT): RsaScheme {
  return { scheme: scheme.scheme, hashAlg: scheme.scheme === TPM_ALG.OAEP ? scheme.details.hashAlg : TPM_ALG.NULL };
}

/**
 * Encrypts a message for the key. `label` includes its terminating zero byte or is empty. `TPM_RC_KEY` if it is no RSA key,
 * `TPM_RC_VALUE` if the message is too long or, with a NULL scheme, not less than the modulus; `TPM_RC_HASH`, `TPM_RC_SCHEME`.
 */
export function rsaEncrypt(publicArea: TPMT_PUBLIC, message: Buffer, scheme: TPMT_RSA_DECRYPT, label: Buffer): Buffer {
  if (publicArea.type !== TPM_ALG.RSA) throw new TpmError(TPM_RC.KEY);
  const key = { modulus: publicArea.unique, exponent: publicArea.parameters.exponent };
  return rsaEncryptMessage(key, rsaEncryptionScheme(scheme), message, label);
}
