// TPM 2.0 Library Part 1, 27.3; Part 3, 12.2 and 12.3: whether a public area is one of a key, and a sensitive area belongs to it.
import { getCurve } from '../crypto/ecc-curves.js';
import { isOnCurve, isPrivateKey, multiplyBase } from '../crypto/ecc.js';
import { gcd, toBigInt } from '../crypto/big-integer.js';
import { publicExponent } from '../crypto/rsa-key.js';
import { TPM_ALG } from '../tpm/constants/index.js';
import { digestSize } from '../tpm/hash.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import type { TPMT_PUBLIC, TPMT_SENSITIVE } from '../tpm/structures/index.js';
import { checkSymmetricSecret, isParent } from './symmetric-secret.js';

function demand(condition: boolean, code: number): void {
  if (!condition) throw new TpmError(code);
}

/**
 * Checks `unique` of a public area. `alone` is true if no sensitive area comes with it, which would tell more. The codes belong to the
 * parameter that holds the public area: `TPM_RC_KEY` if a size is wrong, `TPM_RC_VALUE` for an RSA exponent below 7,
 * `TPM_RC_ECC_POINT`, `TPM_RC_CURVE`.
 */
export function checkPublicArea(publicArea: TPMT_PUBLIC, alone: boolean): void {
  switch (publicArea.type) {
    case TPM_ALG.RSA: {
      const { keyBits, exponent } = publicArea.parameters;
      const modulus = publicArea.unique;
      demand(modulus.length === keyBits / 8 && (modulus[0] ?? 0) >= 0x80, TPM_RC.KEY);
      demand(exponent === 0 || exponent >= 7, TPM_RC.VALUE);
      return;
    }
    case TPM_ALG.ECC: {
      const curve = getCurve(publicArea.parameters.curveID);
      if (!alone) return;
      const { x, y } = publicArea.unique;
      demand(x.length === curve.bytes && y.length === curve.bytes, TPM_RC.KEY);
      demand(publicArea.nameAlg === TPM_ALG.NULL || isOnCurve(curve, { x, y }), TPM_RC.ECC_POINT);
      return;
    }
    default:
      demand(!alone || publicArea.unique.length === digestSize(publicArea.nameAlg), TPM_RC.KEY);
  }
}

/**
 * Checks that a sensitive area belongs to a public area that passed {@link checkPublicArea}. The codes belong to the parameter that holds
 * the sensitive area, but for `TPM_RC_BINDING`, which has no number: `TPM_RC_TYPE`, `TPM_RC_SIZE` of the authorization value or a
 * parent's seed, `TPM_RC_KEY_SIZE`, `TPM_RC_KEY`.
 */
export function checkSensitiveArea(publicArea: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE): void {
  const size = digestSize(publicArea.nameAlg);
  demand(publicArea.type === sensitive.sensitiveType, TPM_RC.TYPE);
  demand(size === 0 || sensitive.authValue.length <= size, TPM_RC.SIZE);
  switch (publicArea.type) {
    case TPM_ALG.RSA:
      checkRsa(publicArea.unique, publicArea.parameters.exponent, sensitive.sensitive);
      break;
    case TPM_ALG.ECC:
      checkEcc(publicArea, sensitive.sensitive);
      break;
    default:
      checkSymmetricSecret(publicArea, { seedValue: sensitive.seedValue, sensitive: sensitive.sensitive });
  }
  if (isParent(publicArea) && size > 0) {
    demand(sensitive.seedValue.length >= size / 2 && sensitive.seedValue.length <= size, TPM_RC.SIZE);
  }
}

/** Also that there is a private exponent: a chip would refuse the key only when it is used. */
function checkRsa(modulus: Buffer, exponent: number, prime: Buffer): void {
  demand(prime.length * 2 === modulus.length && (prime[0] ?? 0) >= 0x80, TPM_RC.KEY_SIZE);
  const [n, p] = [toBigInt(modulus), toBigInt(prime)];
  demand(n % p === 0n, TPM_RC.BINDING);
  const q = n / p;
  demand(p !== q && gcd(BigInt(publicExponent(exponent)), (p - 1n) * (q - 1n)) === 1n, TPM_RC.BINDING);
}

function checkEcc(publicArea: Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.ECC }>, d: Buffer): void {
  const curve = getCurve(publicArea.parameters.curveID);
  demand(isPrivateKey(curve, d), TPM_RC.KEY_SIZE);
  if (publicArea.nameAlg === TPM_ALG.NULL) return;
  const { x, y } = multiplyBase(curve, d);
  const given = publicArea.unique;
  // A coordinate of a public area may lack leading zeros.
  demand(toBigInt(x) === toBigInt(given.x) && toBigInt(y) === toBigInt(given.y), TPM_RC.BINDING);
}
