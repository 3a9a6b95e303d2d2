// TPM 2.0 Library Part 1, 24 and 27, and Part 3, 12.1: which attributes and schemes a new object may have.
import { TPM_ALG, TPMA_OBJECT } from '../../tpm/constants/index.js';
import { digestSize } from '../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { encode } from '../../tpm/schema.js';
import { type TPMT_PUBLIC, TPMT_SYM_DEF_OBJECT_PLUS } from '../../tpm/structures/index.js';
import { isDerivationParent } from '../state/objects.js';
import type { TpmObject } from '../state/object.js';

const has = (publicArea: TPMT_PUBLIC, mask: number): boolean => (publicArea.objectAttributes & mask) !== 0;

function demand(condition: boolean, code: number): void {
  if (!condition) throw new TpmError(code);
}

/**
 * Checks the template of a new object; `parent` is undefined for a primary object, `dataSize` the size of the caller's sensitive data.
 * Bare codes: `TPM_RC_ATTRIBUTES` and those of {@link checkPublicAttributes}.
 */
export function checkCreation(parent: TpmObject | undefined, publicArea: TPMT_PUBLIC, dataSize: number): void {
  const generated = has(publicArea, TPMA_OBJECT.sensitiveDataOrigin);
  demand(generated || dataSize > 0, TPM_RC.ATTRIBUTES);
  demand(parent === undefined || !generated || dataSize === 0, TPM_RC.ATTRIBUTES);
  if (publicArea.type === TPM_ALG.KEYEDHASH || publicArea.type === TPM_ALG.SYMCIPHER) {
    const isData = publicArea.type === TPM_ALG.KEYEDHASH && !has(publicArea, TPMA_OBJECT.sign | TPMA_OBJECT.decrypt);
    demand(!isData || !generated, TPM_RC.ATTRIBUTES);
    const restrictedFixed = has(publicArea, TPMA_OBJECT.restricted) && has(publicArea, TPMA_OBJECT.fixedParent | TPMA_OBJECT.fixedTPM);
    demand(generated || !restrictedFixed, TPM_RC.ATTRIBUTES);
  } else {
    demand(generated, TPM_RC.ATTRIBUTES);
  }
  checkPublicAttributes(parent, publicArea);
}

/**
 * Checks attributes against each other and the parent's. Bare codes: `TPM_RC_HASH`, `TPM_RC_SIZE` (policy), `TPM_RC_ATTRIBUTES`,
 * and those of {@link checkScheme}.
 */
export function checkPublicAttributes(parent: TpmObject | undefined, publicArea: TPMT_PUBLIC): void {
  demand(publicArea.nameAlg !== TPM_ALG.NULL, TPM_RC.HASH);
  demand([0, digestSize(publicArea.nameAlg)].includes(publicArea.authPolicy.length), TPM_RC.SIZE);
  const fixedTPM = has(publicArea, TPMA_OBJECT.fixedTPM);
  const fixedParent = has(publicArea, TPMA_OBJECT.fixedParent);
  const parentFixed = parent === undefined || has(parent.publicArea, TPMA_OBJECT.fixedTPM);
  demand(parentFixed ? fixedParent === fixedTPM : !fixedTPM, TPM_RC.ATTRIBUTES);
  const sign = has(publicArea, TPMA_OBJECT.sign);
  if (sign === has(publicArea, TPMA_OBJECT.decrypt)) {
    demand(!has(publicArea, TPMA_OBJECT.restricted), TPM_RC.ATTRIBUTES);
    demand(publicArea.type === TPM_ALG.KEYEDHASH || sign, TPM_RC.ATTRIBUTES);
  }
  const encryptedDuplication = has(publicArea, TPMA_OBJECT.encryptedDuplication);
  demand(!fixedTPM || !encryptedDuplication, TPM_RC.ATTRIBUTES);
  demand(parentFixed || encryptedDuplication === has(parent.publicArea, TPMA_OBJECT.encryptedDuplication), TPM_RC.ATTRIBUTES);
  if (parent !== undefined && isDerivationParent(parent)) {
    demand(fixedTPM === has(parent.publicArea, TPMA_OBJECT.fixedTPM) && fixedParent, TPM_RC.ATTRIBUTES);
  }
  checkScheme(parent, publicArea);
}

/** Checks that schemes fit the object's use. Bare codes: `TPM_RC_SCHEME`, `TPM_RC_HASH`, `TPM_RC_KDF`, `TPM_RC_SYMMETRIC`. */
export function checkScheme(parent: TpmObject | undefined, publicArea: TPMT_PUBLIC): void {
  switch (publicArea.type) {
    case TPM_ALG.SYMCIPHER: {
      const isCipherMode = publicArea.parameters.sym.mode !== TPM_ALG.CMAC;
      demand(isCipherMode || !has(publicArea, TPMA_OBJECT.decrypt), TPM_RC.SCHEME);
      break;
    }
    case TPM_ALG.KEYEDHASH:
      checkKeyedHashScheme(publicArea);
      return;
    default:
      checkAsymmetricScheme(publicArea);
  }
  checkParentSymmetric(parent, publicArea);
}

function checkKeyedHashScheme(publicArea: Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.KEYEDHASH }>): void {
  const { scheme } = publicArea.parameters;
  const sign = has(publicArea, TPMA_OBJECT.sign);
  if (sign === has(publicArea, TPMA_OBJECT.decrypt)) demand(scheme.scheme === TPM_ALG.NULL, TPM_RC.SCHEME);
  else if (sign) demand(scheme.scheme === TPM_ALG.HMAC, TPM_RC.SCHEME);
  else if (scheme.scheme !== TPM_ALG.XOR) throw new TpmError(TPM_RC.SCHEME);
  else if (has(publicArea, TPMA_OBJECT.restricted)) {
    demand(scheme.details.kdf === TPM_ALG.KDF1_SP800_108, TPM_RC.SCHEME);
    demand(digestSize(scheme.details.hashAlg) > 0, TPM_RC.HASH);
  }
}

const signatureSchemes: ReadonlySet<number> = new Set([
  TPM_ALG.RSASSA,
  TPM_ALG.RSAPSS,
  TPM_ALG.ECDSA,
  TPM_ALG.ECDAA,
  TPM_ALG.SM2,
  TPM_ALG.ECSCHNORR,
]);
const decryptionSchemes: ReadonlySet<number> = new Set([TPM_ALG.RSAES, TPM_ALG.OAEP, TPM_ALG.ECDH, TPM_ALG.ECMQV]);

type Asymmetric = Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.RSA | typeof TPM_ALG.ECC }>;

function checkAsymmetricScheme(publicArea: Asymmetric): void {
  const { scheme } = publicArea.parameters.scheme;
  const restricted = has(publicArea, TPMA_OBJECT.restricted);
  const sign = has(publicArea, TPMA_OBJECT.sign);
  const decrypt = has(publicArea, TPMA_OBJECT.decrypt);
  if (sign === decrypt) demand(scheme === TPM_ALG.NULL, TPM_RC.SCHEME);
  else if (sign) demand(signatureSchemes.has(scheme) || (!restricted && scheme === TPM_ALG.NULL), TPM_RC.SCHEME);
  else demand(scheme === TPM_ALG.NULL || (!restricted && decryptionSchemes.has(scheme)), TPM_RC.SCHEME);
  if (!restricted || !decrypt) demand(publicArea.parameters.symmetric.algorithm === TPM_ALG.NULL, TPM_RC.SYMMETRIC);
  if (publicArea.type === TPM_ALG.ECC) demand(publicArea.parameters.kdf.scheme === TPM_ALG.NULL, TPM_RC.KDF);
}

/** A storage key needs a cipher; one that cannot be duplicated has its parent's hash and cipher. */
function checkParentSymmetric(parent: TpmObject | undefined, publicArea: TPMT_PUBLIC): void {
  const symmetric = symmetricOf(publicArea);
  const isStorage = has(publicArea, TPMA_OBJECT.restricted) && has(publicArea, TPMA_OBJECT.decrypt);
  if (symmetric === undefined || !isStorage) return;
  demand(symmetric.algorithm !== TPM_ALG.NULL, TPM_RC.SYMMETRIC);
  if (parent === undefined || !has(publicArea, TPMA_OBJECT.fixedParent)) return;
  demand(publicArea.nameAlg === parent.publicArea.nameAlg, TPM_RC.HASH);
  const parents = symmetricOf(parent.publicArea);
  const same = parents !== undefined && encode(TPMT_SYM_DEF_OBJECT_PLUS, symmetric).equals(encode(TPMT_SYM_DEF_OBJECT_PLUS, parents));
  demand(same, TPM_RC.SYMMETRIC);
}

/** The symmetric algorithm of a storage key or cipher key; undefined for a keyedhash object, which has none. */
function symmetricOf(publicArea: TPMT_PUBLIC): TPMT_SYM_DEF_OBJECT_PLUS | undefined {
  switch (publicArea.type) {
    case TPM_ALG.KEYEDHASH:
      return undefined;
    case TPM_ALG.SYMCIPHER:
      return publicArea.parameters.sym;
    default:
      return publicArea.parameters.symmetric;
  }
}
