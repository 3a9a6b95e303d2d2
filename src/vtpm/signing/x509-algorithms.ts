// RFC 3279, 4055, 5480 and 5758: how X.509 names the algorithms of TPM keys.
import { bitString, DER_TAG, element, integer, nullElement, objectIdentifier, sequence, smallInteger } from '../../crypto/der.js';
import { TPM_ALG, TPM_ECC_CURVE } from '../../tpm/constants/index.js';
import { digestSize } from '../../tpm/hash.js';
import type { TPMT_PUBLIC, TPMT_SIG_SCHEME_PLUS } from '../../tpm/structures/index.js';

type Identifiers = Readonly<Record<number, string | undefined>>;

const RSA_ENCRYPTION = '1.2.840.113549.1.1.1';
const RSA_PSS = '1.2.840.113549.1.1.10';
const MGF1 = '1.2.840.113549.1.1.8';
const EC_PUBLIC_KEY = '1.2.840.10045.2.1';
const DEFAULT_EXPONENT = 65537;

const hashes: Identifiers = {
  [TPM_ALG.SHA1]: '1.3.14.3.2.26',
  [TPM_ALG.SHA256]: '2.16.840.1.101.3.4.2.1',
  [TPM_ALG.SHA384]: '2.16.840.1.101.3.4.2.2',
  [TPM_ALG.SHA512]: '2.16.840.1.101.3.4.2.3',
};
const rsaSignatures: Identifiers = {
  [TPM_ALG.SHA1]: '1.2.840.113549.1.1.5',
  [TPM_ALG.SHA256]: '1.2.840.113549.1.1.11',
  [TPM_ALG.SHA384]: '1.2.840.113549.1.1.12',
  [TPM_ALG.SHA512]: '1.2.840.113549.1.1.13',
};
const ecdsaSignatures: Identifiers = {
  [TPM_ALG.SHA1]: '1.2.840.10045.4.1',
  [TPM_ALG.SHA256]: '1.2.840.10045.4.3.2',
  [TPM_ALG.SHA384]: '1.2.840.10045.4.3.3',
  [TPM_ALG.SHA512]: '1.2.840.10045.4.3.4',
};
const curves: Identifiers = {
  [TPM_ECC_CURVE.NIST_P192]: '1.2.840.10045.3.1.1',
  [TPM_ECC_CURVE.NIST_P224]: '1.3.132.0.33',
  [TPM_ECC_CURVE.NIST_P256]: '1.2.840.10045.3.1.7',
  [TPM_ECC_CURVE.NIST_P384]: '1.3.132.0.34',
  [TPM_ECC_CURVE.NIST_P521]: '1.3.132.0.35',
  [TPM_ECC_CURVE.SM2_P256]: '1.2.156.10197.1.301',
};

const withNull = (identifier: string): Buffer => sequence(objectIdentifier(identifier), nullElement);
const tagged = (number: number, content: Buffer): Buffer => element(DER_TAG.CONTEXT + number, content);

/** `SubjectPublicKeyInfo` of a key; undefined if X.509 has no name for it. */
export function subjectPublicKeyInfo(publicArea: TPMT_PUBLIC): Buffer | undefined {
  switch (publicArea.type) {
    case TPM_ALG.RSA: {
      const exponent = publicArea.parameters.exponent === 0 ? DEFAULT_EXPONENT : publicArea.parameters.exponent;
      return sequence(withNull(RSA_ENCRYPTION), bitString(sequence(integer(publicArea.unique), smallInteger(exponent))));
    }
    case TPM_ALG.ECC: {
      const curve = curves[publicArea.parameters.curveID];
      if (curve === undefined) return undefined;
      const { x, y } = publicArea.unique;
      return sequence(sequence(objectIdentifier(EC_PUBLIC_KEY), objectIdentifier(curve)), bitString(Buffer.of(4), x, y));
    }
    default:
      return undefined;
  }
}

/** `AlgorithmIdentifier` of the signatures of a key; undefined if X.509 has no name for it. */
export function signatureAlgorithm({ type, unique }: TPMT_PUBLIC, scheme: TPMT_SIG_SCHEME_PLUS): Buffer | undefined {
  if (scheme.scheme === TPM_ALG.NULL) return undefined;
  const { hashAlg } = scheme.details;
  if (type === TPM_ALG.ECC) {
    const identifier = scheme.scheme === TPM_ALG.ECDSA ? ecdsaSignatures[hashAlg] : undefined;
    return identifier === undefined ? undefined : sequence(objectIdentifier(identifier));
  }
  if (type !== TPM_ALG.RSA) return undefined;
  if (scheme.scheme === TPM_ALG.RSASSA) {
    const identifier = rsaSignatures[hashAlg];
    return identifier === undefined ? undefined : withNull(identifier);
  }
  return scheme.scheme === TPM_ALG.RSAPSS && Buffer.isBuffer(unique) ? pssAlgorithm(hashAlg, unique.length) : undefined;
}

/** RSASSA-PSS with MGF1 of the same hash. With SHA-1 all parameters have their default value, and the reference code writes NULL. */
function pssAlgorithm(hashAlg: number, modulusSize: number): Buffer | undefined {
  const identifier = hashes[hashAlg];
  if (identifier === undefined) return undefined;
  if (hashAlg === TPM_ALG.SHA1) return withNull(RSA_PSS);
  const size = digestSize(hashAlg);
  const saltSize = Math.max(0, Math.min(size, modulusSize - size - 2));
  const mask = sequence(objectIdentifier(MGF1), withNull(identifier));
  const parameters = sequence(tagged(0, withNull(identifier)), tagged(1, mask), tagged(2, smallInteger(saltSize)));
  return sequence(objectIdentifier(RSA_PSS), parameters);
}
