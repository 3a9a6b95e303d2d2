// TPM 2.0 Library Part 3, 20.1: verification of signatures by asymmetric keys.
import { TPM_ALG } from '../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import type { TPMT_PUBLIC, TPMT_SIGNATURE } from '../tpm/structures/index.js';
import { getCurve } from './ecc-curves.js';
import { isOnCurve } from './ecc.js';
import { ecSchnorrVerify, ecdsaVerify, sm2Verify, type EccSignature } from './ecc-signatures.js';
import { rsaVerify } from './rsa.js';

/**
 * Whether `signature` is the key's signature of `digest`. Whether the key may be used for that is for the caller to check.
 * `TPM_RC_SCHEME` if the scheme is not one of the key's type or one that the key alone cannot verify (ECDAA, HMAC), `TPM_RC_CURVE`.
 */
export function verifySignature(publicArea: TPMT_PUBLIC, digest: Buffer, signature: TPMT_SIGNATURE): boolean {
  switch (signature.sigAlg) {
    case TPM_ALG.RSASSA:
    case TPM_ALG.RSAPSS: {
      if (publicArea.type !== TPM_ALG.RSA) throw new TpmError(TPM_RC.SCHEME);
      const key = { modulus: publicArea.unique, exponent: publicArea.parameters.exponent };
      const { hash, sig } = signature.signature;
      return rsaVerify(key, { scheme: signature.sigAlg, hashAlg: hash }, digest, sig);
    }
    case TPM_ALG.ECDSA:
    case TPM_ALG.ECSCHNORR:
    case TPM_ALG.SM2: {
      if (publicArea.type !== TPM_ALG.ECC) throw new TpmError(TPM_RC.SCHEME);
      const curve = getCurve(publicArea.parameters.curveID);
      const point = publicArea.unique;
      if (!isOnCurve(curve, point)) return false;
      const { hash, signatureR, signatureS } = signature.signature;
      const numbers: EccSignature = { r: signatureR, s: signatureS };
      if (signature.sigAlg === TPM_ALG.ECDSA) return ecdsaVerify(curve, point, digest, numbers);
      if (signature.sigAlg === TPM_ALG.SM2) return sm2Verify(curve, point, digest, numbers);
      return ecSchnorrVerify(curve, point, digest, hash, numbers);
    }
    default:
      throw new TpmError(TPM_RC.SCHEME);
  }
}
