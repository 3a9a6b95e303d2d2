// ECC keys in software.
import type { Curve } from '../crypto/ecc-curves.js';
import { multiply } from '../crypto/ecc.js';
import { ecSchnorrSign, ecdsaSign, sm2Sign, type EccSignature } from '../crypto/ecc-signatures.js';
import { TPM_ALG } from '../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import type { TPMS_ECC_POINT, TPMT_SIG_SCHEME, TPMT_SIGNATURE } from '../tpm/structures/index.js';
import type { SymmetricSecret } from './engine.js';
import { settle, SoftwareKey } from './software-key.js';

/** The secret of an ECC key is its scalar. ECDAA, which needs the counters of `Commit`, is done by who has them. */
export class SoftwareEccKey extends SoftwareKey {
  private readonly curve: Curve;

  constructor(curve: Curve, secret: SymmetricSecret) {
    super(TPM_ALG.ECC, secret);
    this.curve = curve;
  }

  override sign(digest: Buffer, scheme: TPMT_SIG_SCHEME): Promise<TPMT_SIGNATURE> {
    return settle(() => {
      if (scheme.scheme !== TPM_ALG.ECDSA && scheme.scheme !== TPM_ALG.ECSCHNORR && scheme.scheme !== TPM_ALG.SM2) {
        throw new TpmError(TPM_RC.SCHEME);
      }
      const { hashAlg } = scheme.details;
      const { r, s } = this.numbers(scheme.scheme, hashAlg, digest);
      return { sigAlg: scheme.scheme, signature: { hash: hashAlg, signatureR: r, signatureS: s } };
    });
  }

  override ecdhZGen(point: TPMS_ECC_POINT): Promise<TPMS_ECC_POINT> {
    return settle(() => {
      const { x, y } = multiply(this.curve, this.secretParts.sensitive, point);
      return { x, y };
    });
  }

  private numbers(scheme: number, hashAlg: number, digest: Buffer): EccSignature {
    const d = this.secretParts.sensitive;
    if (scheme === TPM_ALG.ECDSA) return ecdsaSign(this.curve, d, digest);
    return scheme === TPM_ALG.SM2 ? sm2Sign(this.curve, d, digest) : ecSchnorrSign(this.curve, d, digest, hashAlg);
  }
}
