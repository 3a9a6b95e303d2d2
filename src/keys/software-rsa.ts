// RSA keys in software.
import type { KeyObject } from 'node:crypto';
import { rsaEncryptionScheme } from '../crypto/encrypt.js';
import { rsaDecryptMessage, rsaSign } from '../crypto/rsa.js';
import { rsaPrivateKey } from '../crypto/rsa-key.js';
import { TPM_ALG } from '../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import type { TPMT_RSA_DECRYPT, TPMT_SIG_SCHEME, TPMT_SIGNATURE } from '../tpm/structures/index.js';
import type { SymmetricSecret } from './engine.js';
import { settle, SoftwareKey } from './software-key.js';

/** The secret of an RSA key is one prime. The numbers that follow from it are computed at the first use and live in OpenSSL. */
export class SoftwareRsaKey extends SoftwareKey {
  private readonly modulus: Buffer;
  private readonly exponent: number;
  private key: KeyObject | undefined;

  constructor(modulus: Buffer, exponent: number, secret: SymmetricSecret) {
    super(TPM_ALG.RSA, secret);
    this.modulus = Buffer.from(modulus);
    this.exponent = exponent;
  }

  override sign(digest: Buffer, scheme: TPMT_SIG_SCHEME): Promise<TPMT_SIGNATURE> {
    return settle(() => {
      if (scheme.scheme !== TPM_ALG.RSASSA && scheme.scheme !== TPM_ALG.RSAPSS) throw new TpmError(TPM_RC.SCHEME);
      const { hashAlg } = scheme.details;
      const sig = rsaSign(this.keyObject(), this.modulus.length, { scheme: scheme.scheme, hashAlg }, digest);
      return { sigAlg: scheme.scheme, signature: { hash: hashAlg, sig } };
    });
  }

  override rsaDecrypt(cipherText: Buffer, scheme: TPMT_RSA_DECRYPT, label: Buffer): Promise<Buffer> {
    return settle(() => rsaDecryptMessage(this.keyObject(), this.modulus, rsaEncryptionScheme(scheme), cipherText, label));
  }

  override dispose(): void {
    super.dispose();
    this.key = undefined;
  }

  private keyObject(): KeyObject {
    this.key ??= rsaPrivateKey(this.modulus, this.exponent, this.secretParts.sensitive);
    return this.key;
  }
}
