// TPM 2.0 Library Part 1, 27.5 and Part 2, 12.3.2: secrets of keyedhash and symcipher objects, which are made in software whatever engine
// keeps them.
import { timingSafeEqual } from 'node:crypto';
import type { RandomBytes } from '../crypto/random.js';
import { isTdesKey, setOddParity } from '../crypto/tdes-key.js';
import { isCipher } from '../tpm/block-cipher.js';
import { MAX_SYM_DATA, TPM_ALG, TPMA_OBJECT } from '../tpm/constants/index.js';
import { blockSize, digestSize, hash, hmac, isHashAlg } from '../tpm/hash.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import type { TPMT_PUBLIC } from '../tpm/structures/index.js';
import type { SymmetricSecret } from './engine.js';

type PublicOf<T extends TPMT_PUBLIC['type']> = Extract<TPMT_PUBLIC, { type: T }>;
/** Public area of an object whose secret is symmetric. */
export type SymmetricPublic = PublicOf<typeof TPM_ALG.KEYEDHASH> | PublicOf<typeof TPM_ALG.SYMCIPHER>;

/** Whether an object can be a parent: a restricted decryption key. */
export function isParent(publicArea: TPMT_PUBLIC): boolean {
  const both = TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt;
  return (publicArea.objectAttributes & both) === both;
}

/**
 * `unique` of a symmetric object: `H_nameAlg(seedValue || sensitive)`; of a parent `HMAC_nameAlg(seedValue, sensitive)`, because its seed
 * protects more than itself. Empty if `nameAlg` is NULL.
 */
export function symmetricUnique(publicArea: SymmetricPublic, { seedValue, sensitive }: SymmetricSecret): Buffer {
  const { nameAlg } = publicArea;
  if (!isHashAlg(nameAlg)) return Buffer.alloc(0);
  return isParent(publicArea) ? hmac(nameAlg, seedValue, sensitive) : hash(nameAlg, seedValue, sensitive);
}

/**
 * Makes the secret of a symmetric object, out of the caller's data or, if that is empty, of `draw`, and the public area with `unique`
 * filled in. `TPM_RC_SIZE` if the data of an HMAC or XOR key exceeds the block of its hash; for a cipher key `TPM_RC_KEY_SIZE` if
 * it has the wrong size, `TPM_RC_KEY` if it is a weak TDES key, `TPM_RC_SYMMETRIC` if the cipher is not served.
 * @param drawSeed where the seedValue comes from, if not from `draw`
 */
export function createSymmetricSecret<P extends SymmetricPublic>(
  publicArea: P,
  sensitiveData: Buffer,
  draw: RandomBytes,
  drawSeed: RandomBytes = draw,
): { publicArea: P; secret: SymmetricSecret } {
  const sensitive =
    publicArea.type === TPM_ALG.SYMCIPHER ? cipherKey(publicArea, sensitiveData, draw) : keyedHashData(publicArea, sensitiveData, draw);
  const secret = { seedValue: drawSeed(digestSize(publicArea.nameAlg)), sensitive };
  return { publicArea: { ...publicArea, unique: symmetricUnique(publicArea, secret) }, secret };
}

/** The hash that bounds a keyed hash's data: its scheme's, or `nameAlg`. */
function limitingHash({ nameAlg, parameters: { scheme } }: PublicOf<typeof TPM_ALG.KEYEDHASH>): number {
  return scheme.scheme === TPM_ALG.NULL ? nameAlg : scheme.details.hashAlg;
}

function keyedHashData(publicArea: PublicOf<typeof TPM_ALG.KEYEDHASH>, data: Buffer, draw: RandomBytes): Buffer {
  const hashAlg = limitingHash(publicArea);
  if (data.length === 0) return draw(digestSize(hashAlg));
  const isKey = (publicArea.objectAttributes & (TPMA_OBJECT.sign | TPMA_OBJECT.decrypt)) !== 0;
  if (data.length > (isKey ? blockSize(hashAlg) : MAX_SYM_DATA)) throw new TpmError(TPM_RC.SIZE);
  return Buffer.from(data);
}

function cipherKey({ parameters: { sym } }: PublicOf<typeof TPM_ALG.SYMCIPHER>, data: Buffer, draw: RandomBytes): Buffer {
  const keyBits = sym.keyBits ?? 0;
  if (!isCipher(sym.algorithm, keyBits)) throw new TpmError(TPM_RC.SYMMETRIC);
  if (data.length > 0) {
    checkCipherKey(sym.algorithm, keyBits, data);
    return Buffer.from(data);
  }
  for (;;) {
    const key = draw(keyBits / 8);
    if (sym.algorithm !== TPM_ALG.TDES) return key;
    setOddParity(key);
    if (isTdesKey(key)) return key;
  }
}

function checkCipherKey(algorithm: number, keyBits: number, key: Buffer): void {
  if (key.length * 8 !== keyBits) throw new TpmError(TPM_RC.KEY_SIZE);
  if (algorithm === TPM_ALG.TDES && !isTdesKey(key)) throw new TpmError(TPM_RC.KEY);
}

/**
 * Checks that a secret from outside fits a public area. `TPM_RC_KEY_SIZE` if a key or seed has the wrong size, `TPM_RC_KEY` for a weak
 * TDES key, `TPM_RC_BINDING` if `unique` is not its digest.
 */
export function checkSymmetricSecret(publicArea: SymmetricPublic, secret: SymmetricSecret): void {
  if (publicArea.type === TPM_ALG.SYMCIPHER) {
    const { algorithm, keyBits } = publicArea.parameters.sym;
    checkCipherKey(algorithm, keyBits ?? 0, secret.sensitive);
  } else {
    const isData = publicArea.parameters.scheme.scheme === TPM_ALG.NULL;
    const limit = isData ? MAX_SYM_DATA : blockSize(limitingHash(publicArea));
    if (secret.sensitive.length > limit) throw new TpmError(TPM_RC.KEY_SIZE);
  }
  if (!isHashAlg(publicArea.nameAlg)) return;
  if (secret.seedValue.length !== digestSize(publicArea.nameAlg)) throw new TpmError(TPM_RC.KEY_SIZE);
  const unique = symmetricUnique(publicArea, secret);
  if (publicArea.unique.length !== unique.length || !timingSafeEqual(publicArea.unique, unique)) throw new TpmError(TPM_RC.BINDING);
}
