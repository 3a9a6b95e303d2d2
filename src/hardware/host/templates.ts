// TPM 2.0 Library Part 2, 12.2: public areas of the keys that tpmux makes in the chip.
import { toBigInt, toBytes } from '../../crypto/big-integer.js';
import { findCurve } from '../../crypto/ecc-curves.js';
import { PolicyAuthorize, PolicyCommandCode } from '../../tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_ECC_CURVE, TPMA_OBJECT } from '../../tpm/constants/index.js';
import { hash } from '../../tpm/hash.js';
import { policyDigest } from '../../tpm/policy-digest.js';
import type { TPMT_PUBLIC } from '../../tpm/structures/index.js';

const EMPTY = Buffer.alloc(0);
const NAME_ALG = TPM_ALG.SHA256;
const NO_SCHEME = { scheme: TPM_ALG.NULL, details: null } as const;
const NO_CIPHER = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const STORAGE_CIPHER = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB } as const;
const FIXED = TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent;
const GENERATED = TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.noDA;
const STORAGE = TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt;

function eccStorage(objectAttributes: number, authPolicy: Buffer, x: Buffer): TPMT_PUBLIC {
  return {
    type: TPM_ALG.ECC,
    nameAlg: NAME_ALG,
    objectAttributes,
    authPolicy,
    parameters: { symmetric: STORAGE_CIPHER, scheme: NO_SCHEME, curveID: TPM_ECC_CURVE.NIST_P256, kdf: NO_SCHEME },
    unique: { x, y: EMPTY },
  };
}

/**
 * The host root: P-256 storage key, never leaves the chip. Its `unique.x` makes it another key than the ordinary storage root
 * key of the same parameters.
 */
export const HOST_ROOT_TEMPLATE: TPMT_PUBLIC = eccStorage(FIXED | GENERATED | STORAGE, EMPTY, Buffer.from('tpmux host root'));

/** A storage primary that exists only to agree a secret with the chip before there is a host root. */
export const TEMPORARY_ROOT_TEMPLATE: TPMT_PUBLIC = eccStorage(FIXED | GENERATED | STORAGE, EMPTY, EMPTY);

/** The migration authority: signs what the policies of guest roots ask for; never leaves the chip. ECDSA with SHA-256. */
export const MIGRATION_AUTHORITY_TEMPLATE: TPMT_PUBLIC = {
  type: TPM_ALG.ECC,
  nameAlg: NAME_ALG,
  objectAttributes: FIXED | GENERATED | TPMA_OBJECT.sign,
  authPolicy: EMPTY,
  parameters: {
    symmetric: NO_CIPHER,
    scheme: { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } },
    curveID: TPM_ECC_CURVE.NIST_P256,
    kdf: NO_SCHEME,
  },
  unique: { x: EMPTY, y: EMPTY },
};

/**
 * A guest root: P-256 storage key that the chip duplicates only under a policy that the migration authority signed for this
 * guest, and only encrypted (`encryptedDuplication`), so that not even its owner gets it out in clear.
 */
export function guestRootTemplate(authPolicy: Buffer): TPMT_PUBLIC {
  return eccStorage(TPMA_OBJECT.encryptedDuplication | GENERATED | STORAGE, authPolicy, EMPTY);
}

/** The root of a guest's keys that never leave the chip: P-256 storage key, as the host root itself. */
export const ANCHORED_ROOT_TEMPLATE: TPMT_PUBLIC = eccStorage(FIXED | GENERATED | STORAGE, EMPTY, EMPTY);

/** `policyRef` of a guest: what its migration policies are signed for, besides the policy. SHA-256 of its identity. */
export function migrationPolicyRef(guestId: string): Buffer {
  return hash(NAME_ALG, Buffer.from(guestId));
}

/** Digest of the policy that is just `PolicyAuthorize(authorityName, policyRef)` (Part 3, 23.16). */
export function authorizedPolicyDigest(authorityName: Buffer, policyRef: Buffer): Buffer {
  return policyDigest([[PolicyAuthorize, { keySign: authorityName, policyRef }]], NAME_ALG);
}

/** Attributes of whatever lives below `root`: it goes where its root goes, or nowhere. */
function childAttributes(root: TPMT_PUBLIC): number {
  const inherited = root.objectAttributes & (TPMA_OBJECT.fixedTPM | TPMA_OBJECT.encryptedDuplication);
  return TPMA_OBJECT.fixedParent | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.noDA | inherited;
}

/** A sealed object below `root`. */
export function sealedPublic(root: TPMT_PUBLIC): TPMT_PUBLIC {
  return {
    type: TPM_ALG.KEYEDHASH,
    nameAlg: NAME_ALG,
    objectAttributes: childAttributes(root),
    authPolicy: EMPTY,
    parameters: { scheme: NO_SCHEME },
    unique: EMPTY,
  };
}

/** The P-256 key below `root` that opens the secrets of a guest's symmetric objects. */
export function secretsKeyTemplate(root: TPMT_PUBLIC): TPMT_PUBLIC {
  return {
    type: TPM_ALG.ECC,
    nameAlg: NAME_ALG,
    objectAttributes: childAttributes(root) | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.decrypt,
    authPolicy: EMPTY,
    parameters: { symmetric: NO_CIPHER, scheme: NO_SCHEME, curveID: TPM_ECC_CURVE.NIST_P256, kdf: NO_SCHEME },
    unique: { x: EMPTY, y: EMPTY },
  };
}

/** An asymmetric public area of a guest's. */
export type AsymmetricPublic = Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.RSA | typeof TPM_ALG.ECC }>;

/** Whether a guest's key may leave its parent: then the chip's key behind it may be duplicated, all others may not. */
export function isDuplicable(guest: TPMT_PUBLIC): boolean {
  return (guest.objectAttributes & FIXED) === 0;
}

/** Digest of the policy that is just `PolicyCommandCode(Duplicate)` (Part 3, 23.11). */
const DUPLICATION_POLICY = policyDigest([[PolicyCommandCode, { code: TPM_CC.Duplicate }]], NAME_ALG);

/**
 * The chip's key below `root` behind a guest's asymmetric key: unrestricted, without scheme, so that tpmux decides what it
 * computes. An ECC key can sign or decrypt as the guest's key can; an RSA key both, so that a chip that lacks a hash can compute a
 * signature that tpmux has padded. `unique` is the guest's, with coordinates as long as the field.
 */
export function guestKeyPublic(root: TPMT_PUBLIC, guest: AsymmetricPublic): TPMT_PUBLIC {
  const copied = guest.objectAttributes & (TPMA_OBJECT.sign | TPMA_OBJECT.decrypt | TPMA_OBJECT.sensitiveDataOrigin);
  const duplicable = isDuplicable(guest) && (root.objectAttributes & TPMA_OBJECT.fixedTPM) === 0;
  const inherited = childAttributes(root) & ~(duplicable ? FIXED : 0);
  const common = {
    nameAlg: NAME_ALG,
    objectAttributes: inherited | copied,
    authPolicy: duplicable ? DUPLICATION_POLICY : EMPTY,
  } as const;
  if (guest.type === TPM_ALG.RSA) {
    const { keyBits } = guest.parameters;
    return {
      ...common,
      objectAttributes: common.objectAttributes | TPMA_OBJECT.sign | TPMA_OBJECT.decrypt,
      type: TPM_ALG.RSA,
      parameters: { symmetric: NO_CIPHER, scheme: NO_SCHEME, keyBits, exponent: 0 },
      unique: guest.unique,
    };
  }
  const { curveID } = guest.parameters;
  return {
    ...common,
    type: TPM_ALG.ECC,
    parameters: { symmetric: NO_CIPHER, scheme: NO_SCHEME, curveID, kdf: NO_SCHEME },
    unique: { x: coordinate(curveID, guest.unique.x), y: coordinate(curveID, guest.unique.y) },
  };
}

/** Empty in a template. A guest may have left out leading zeros, or added some. */
function coordinate(curveID: number, given: Buffer): Buffer {
  const size = findCurve(curveID)?.bytes ?? 0;
  return given.length === 0 || given.length === size ? given : toBytes(toBigInt(given), size);
}

/** The public part of a storage key that tpmux itself holds for one duplication. */
export function transferKeyPublic(point: { readonly x: Buffer; readonly y: Buffer }): TPMT_PUBLIC {
  const key = eccStorage(STORAGE | TPMA_OBJECT.userWithAuth, EMPTY, EMPTY);
  return { ...key, unique: point } as TPMT_PUBLIC;
}
