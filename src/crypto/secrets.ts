// TPM 2.0 Library Part 1, 24.3, B.10 and C.6: secrets for the holder of a decryption key: salts of sessions, seeds of credentials and
// of duplication blobs.
import { randomBytes } from 'node:crypto';
import { cfb, cipherBlockSize } from '../tpm/block-cipher.js';
import { TPM_ALG } from '../tpm/constants/index.js';
import { digestSize } from '../tpm/hash.js';
import { KDFe, xorObfuscate } from '../tpm/kdf.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { decode, encode } from '../tpm/schema.js';
import { TPMS_ECC_POINT, type TPMT_PUBLIC, type TPMT_RSA_DECRYPT } from '../tpm/structures/index.js';
import { getCurve } from './ecc-curves.js';
import { generateEccKey, isOnCurve, multiply } from './ecc.js';
import { rsaEncryptMessage } from './rsa.js';

/** What a secret is for: the label of its derivation, without the zero byte that ends it. TPMUX: what tpmux keeps for itself. */
export type SecretUse = 'SECRET' | 'IDENTITY' | 'DUPLICATE' | 'TPMUX';

/** A secret and what its holder gets (the contents of a `TPM2B_ENCRYPTED_SECRET`). The caller zeroizes `secret`. */
export interface Encapsulated {
  readonly secret: Buffer;
  readonly encrypted: Buffer;
}

/** The operations of a private part that open secrets; every `PrivatePart` of a key engine has them. */
export interface SecretOpener {
  rsaDecrypt(cipherText: Buffer, scheme: TPMT_RSA_DECRYPT, label: Buffer): Promise<Buffer>;
  ecdhZGen(point: TPMS_ECC_POINT): Promise<TPMS_ECC_POINT>;
  secret(): Promise<{ readonly seedValue: Buffer; readonly sensitive: Buffer }>;
}

function labelOf(use: SecretUse): Buffer {
  return Buffer.from(`${use}\0`);
}

/**
 * Makes a secret, as long as the key's `nameAlg`'s digest, for the holder of an asymmetric decryption key. `TPM_RC_KEY` if the key is not
 * asymmetric or its point not on the curve, `TPM_RC_CURVE`, `TPM_RC_HASH`.
 */
export function encapsulate(publicArea: TPMT_PUBLIC, use: SecretUse): Encapsulated {
  const { nameAlg } = publicArea;
  const size = digestSize(nameAlg);
  if (publicArea.type === TPM_ALG.RSA) {
    const secret = randomBytes(size);
    const key = { modulus: publicArea.unique, exponent: publicArea.parameters.exponent };
    return { secret, encrypted: rsaEncryptMessage(key, { scheme: TPM_ALG.OAEP, hashAlg: nameAlg }, secret, labelOf(use)) };
  }
  if (publicArea.type !== TPM_ALG.ECC) throw new TpmError(TPM_RC.KEY);
  const curve = getCurve(publicArea.parameters.curveID);
  if (!isOnCurve(curve, publicArea.unique)) throw new TpmError(TPM_RC.KEY);
  const { d, point } = generateEccKey(curve);
  const z = multiply(curve, d, publicArea.unique);
  const secret = KDFe(nameAlg, z.x, use, point.x, publicArea.unique.x, size * 8);
  for (const used of [d, z.x, z.y]) used.fill(0);
  return { secret, encrypted: encode(TPMS_ECC_POINT, { x: point.x, y: point.y }) };
}

/**
 * Recovers a secret that was made for the key. The caller has checked that the key decrypts, and zeroizes the result. For symmetric keys
 * (salts only) `nonceCaller` is what the secret was obfuscated with.
 *
 * RSA: `TPM_RC_SCHEME` if the key has a scheme other than OAEP, `TPM_RC_SIZE` if the cipher text is not as long as the modulus,
 * `TPM_RC_VALUE` if it does not decrypt or to more than a digest. ECC: `TPM_RC_INSUFFICIENT` or `TPM_RC_SIZE` if it is no point,
 * `TPM_RC_ECC_POINT` if the point is not on the curve. Symmetric: `TPM_RC_VALUE` if it is longer than a digest.
 */
export async function decapsulate(
  privatePart: SecretOpener,
  publicArea: TPMT_PUBLIC,
  use: SecretUse,
  encrypted: Buffer,
  nonceCaller: Buffer = Buffer.alloc(0),
): Promise<Buffer> {
  switch (publicArea.type) {
    case TPM_ALG.RSA:
      return rsaDecapsulate(privatePart, publicArea, use, encrypted);
    case TPM_ALG.ECC: {
      const point = decode(TPMS_ECC_POINT, encrypted);
      const z = await privatePart.ecdhZGen(point);
      const secret = KDFe(publicArea.nameAlg, z.x, use, point.x, publicArea.unique.x, digestSize(publicArea.nameAlg) * 8);
      z.x.fill(0);
      z.y.fill(0);
      return secret;
    }
    default:
      return symmetricDecapsulate(privatePart, publicArea, encrypted, nonceCaller);
  }
}

type PublicOf<T extends TPMT_PUBLIC['type']> = Extract<TPMT_PUBLIC, { type: T }>;

async function rsaDecapsulate(
  privatePart: SecretOpener,
  { nameAlg, parameters: { scheme } }: PublicOf<typeof TPM_ALG.RSA>,
  use: SecretUse,
  encrypted: Buffer,
): Promise<Buffer> {
  if (scheme.scheme !== TPM_ALG.NULL && scheme.scheme !== TPM_ALG.OAEP) throw new TpmError(TPM_RC.SCHEME);
  const hashAlg = scheme.scheme === TPM_ALG.OAEP ? scheme.details.hashAlg : nameAlg;
  if (hashAlg === TPM_ALG.NULL) throw new TpmError(TPM_RC.SCHEME);
  const oaep: TPMT_RSA_DECRYPT = { scheme: TPM_ALG.OAEP, details: { hashAlg } };
  const secret = await privatePart.rsaDecrypt(encrypted, oaep, labelOf(use));
  if (secret.length > digestSize(hashAlg)) throw new TpmError(TPM_RC.VALUE);
  return secret;
}

async function symmetricDecapsulate(
  privatePart: SecretOpener,
  publicArea: PublicOf<typeof TPM_ALG.KEYEDHASH> | PublicOf<typeof TPM_ALG.SYMCIPHER>,
  encrypted: Buffer,
  nonceCaller: Buffer,
): Promise<Buffer> {
  if (encrypted.length > digestSize(publicArea.nameAlg)) throw new TpmError(TPM_RC.VALUE);
  const { seedValue, sensitive } = await privatePart.secret();
  try {
    if (publicArea.type === TPM_ALG.KEYEDHASH) {
      const secret = Buffer.from(encrypted);
      xorObfuscate(publicArea.nameAlg, sensitive, nonceCaller, Buffer.alloc(0), secret);
      return secret;
    }
    const { algorithm } = publicArea.parameters.sym;
    const iv = Buffer.alloc(cipherBlockSize(algorithm));
    nonceCaller.copy(iv);
    return cfb('decrypt', algorithm, sensitive, iv, encrypted);
  } finally {
    seedValue.fill(0);
    sensitive.fill(0);
  }
}
