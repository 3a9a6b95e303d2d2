// In which form a chip is asked for what a guest's key computes: chips have fewer hashes than a guest's TPM, and shorter labels.
// docs/contributing.md lists what a chip may refuse.
import { bitLength, mod, toBigInt, toBytes } from '../crypto/big-integer.js';
import { getCurve, type Curve } from '../crypto/ecc-curves.js';
import { isOnCurve, truncateDigest } from '../crypto/ecc.js';
import { decodeOaep, encodePss, encodeRsassa } from '../crypto/rsa-padding.js';
import { TPM_ALG } from '../tpm/constants/index.js';
import { digestSize } from '../tpm/hash.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import type { TPMI_ALG_HASH, TPMS_ECC_POINT, TPMT_RSA_DECRYPT, TPMT_SIG_SCHEME } from '../tpm/structures/index.js';

const HASHES: readonly TPMI_ALG_HASH[] = [TPM_ALG.SHA256, TPM_ALG.SHA384, TPM_ALG.SHA512, TPM_ALG.SHA1];
/** `TPM_ALG_ID` of a label's limit: a `TPM2B_DATA` holds a `TPMT_HA` of the largest hash. */
const ALGORITHM_ID = 2;

type SignatureScheme = TPMT_SIG_SCHEME & { readonly details: { readonly hashAlg: TPMI_ALG_HASH } };

/**
 * The digest and hash that make the chip sign with ECDSA the number that `digest` stands for, if it lacks the hash: only that number goes
 * into a signature (FIPS 186-4, 6.4). `TPM_RC_SCHEME` if it has no hash that is long enough.
 */
export function ecdsaForm(
  algorithms: ReadonlySet<number>,
  curve: Curve,
  digest: Buffer,
  hashAlg: TPMI_ALG_HASH,
): { digest: Buffer; hashAlg: TPMI_ALG_HASH } {
  if (algorithms.has(hashAlg)) return { digest, hashAlg };
  const number = truncateDigest(curve, digest);
  const orderBits = bitLength(curve.n);
  for (const other of HASHES) {
    const size = digestSize(other);
    const excess = size * 8 - orderBits;
    if (algorithms.has(other) && bitLength(number) <= size * 8) {
      return { digest: toBytes(excess > 0 ? number << BigInt(excess) : number, size), hashAlg: other };
    }
  }
  throw new TpmError(TPM_RC.SCHEME);
}

/** What the raw RSA operation makes a signature of, for a chip that lacks the hash; undefined if the chip can sign itself. */
export function rsaSignatureForm(
  algorithms: ReadonlySet<number>,
  keyBits: number,
  digest: Buffer,
  { scheme, details }: SignatureScheme,
): Buffer | undefined {
  if (algorithms.has(details.hashAlg)) return undefined;
  const encoding = scheme === TPM_ALG.RSASSA ? encodeRsassa : encodePss;
  return encoding(details.hashAlg, digest, keyBits / 8);
}

/** Undoes the padding of what the raw RSA operation gave; `TPM_RC_VALUE`. */
export type Unpad = (encoded: Buffer) => Buffer;

/** How to undo OAEP after the raw operation, for a chip that lacks the hash or the room for the label; undefined if it decrypts itself. */
export function oaepForm(algorithms: ReadonlySet<number>, scheme: TPMT_RSA_DECRYPT, label: Buffer): Unpad | undefined {
  if (scheme.scheme !== TPM_ALG.OAEP) return undefined;
  const { hashAlg } = scheme.details;
  const longest = Math.max(...HASHES.filter((alg) => algorithms.has(alg)).map(digestSize)) + ALGORITHM_ID;
  if (algorithms.has(hashAlg) && label.length <= longest) return undefined;
  return (encoded) => decodeOaep(hashAlg, label, encoded);
}

/**
 * The point with coordinates as long as the field and within it, as every chip takes them; libtpms takes longer ones. `TPM_RC_ECC_POINT`
 * if it is not on the curve.
 */
export function pointForm(curveID: number, { x, y }: TPMS_ECC_POINT): TPMS_ECC_POINT {
  const curve = getCurve(curveID);
  const coordinate = (bytes: Buffer): Buffer => toBytes(mod(toBigInt(bytes), curve.p), curve.bytes);
  const reduced = { x: coordinate(x), y: coordinate(y) };
  if (!isOnCurve(curve, reduced)) throw new TpmError(TPM_RC.ECC_POINT);
  return reduced;
}
