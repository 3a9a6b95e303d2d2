// TPM 2.0 Library Part 3, 14.6, and Part 2, 11.2.5.8: what the TPM says of a curve.
import { toBytes } from '../../crypto/big-integer.js';
import { findCurve } from '../../crypto/ecc-curves.js';
import { TPM_ALG, TPM_ECC_CURVE } from '../../tpm/constants/index.js';
import type { TPMI_ECC_CURVE, TPMS_ALGORITHM_DETAIL_ECC } from '../../tpm/structures/index.js';

/** Hash of the default KDF. That of SM2 is one that is not served: this is a property of the curve (TCG Algorithm Registry, 6). */
const kdfHash: Readonly<Record<number, TPM_ALG>> = {
  [TPM_ECC_CURVE.NIST_P192]: TPM_ALG.SHA256,
  [TPM_ECC_CURVE.NIST_P224]: TPM_ALG.SHA256,
  [TPM_ECC_CURVE.NIST_P256]: TPM_ALG.SHA256,
  [TPM_ECC_CURVE.NIST_P384]: TPM_ALG.SHA384,
  [TPM_ECC_CURVE.NIST_P521]: TPM_ALG.SHA512,
  [TPM_ECC_CURVE.SM2_P256]: TPM_ALG.SM3_256,
};
const COFACTOR = Buffer.of(1);

/** Parameters of a curve, big-endian: numbers modulo `p` have as many bytes as `p`, but 0 has one. Undefined if the curve is not served. */
export function curveParameters(curveID: TPMI_ECC_CURVE): TPMS_ALGORITHM_DETAIL_ECC | undefined {
  const curve = findCurve(curveID);
  if (curve === undefined) return undefined;
  const { p, a, b, gX, gY, n, bytes, orderBytes, keyBits } = curve;
  const wide = (value: bigint): Buffer => toBytes(value, value === 0n ? 1 : bytes);
  const hashAlg = kdfHash[curveID];
  const noScheme = { scheme: TPM_ALG.NULL, details: null } as const;
  return {
    curveID,
    keySize: keyBits,
    kdf: hashAlg === undefined ? noScheme : { scheme: TPM_ALG.KDF1_SP800_56A, details: { hashAlg } },
    sign: noScheme,
    p: wide(p),
    a: wide(a),
    b: wide(b),
    gX: wide(gX),
    gY: wide(gY),
    n: toBytes(n, orderBytes),
    h: COFACTOR,
  } as TPMS_ALGORITHM_DETAIL_ECC;
}
