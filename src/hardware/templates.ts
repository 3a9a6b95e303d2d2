// TPM 2.0 Library Part 2, 12.2: public areas of the keys that tpmux makes in the chip.
import { TPM_ALG, TPM_CC, TPM_ECC_CURVE, TPMA_OBJECT } from '../tpm/constants/index.js';
import { hash } from '../tpm/hash.js';
import type { TPMT_PUBLIC } from '../tpm/structures/index.js';

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

/** `policyRef` of a guest: what its migration policies are signed for, besides the policy. SHA-256 of its identity. */
export function migrationPolicyRef(guestId: string): Buffer {
  return hash(NAME_ALG, Buffer.from(guestId));
}

/** Digest of the policy that is just `PolicyAuthorize(authorityName, policyRef)` (Part 3, 23.16). */
export function authorizedPolicyDigest(authorityName: Buffer, policyRef: Buffer): Buffer {
  const code = Buffer.alloc(4);
  code.writeUInt32BE(TPM_CC.PolicyAuthorize);
  return hash(NAME_ALG, hash(NAME_ALG, Buffer.alloc(32), code, authorityName), policyRef);
}

/** Attributes of whatever lives below `root`: it goes where its root goes, or nowhere. */
function childAttributes(root: TPMT_PUBLIC): number {
  const inherited = root.objectAttributes & (TPMA_OBJECT.fixedTPM | TPMA_OBJECT.encryptedDuplication);
  return TPMA_OBJECT.fixedParent | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.noDA | inherited;
}

/** A sealed object below `root`. `unique` is that of the object, if it exists. */
export function sealedPublic(root: TPMT_PUBLIC, unique: Buffer = EMPTY): TPMT_PUBLIC {
  return {
    type: TPM_ALG.KEYEDHASH,
    nameAlg: NAME_ALG,
    objectAttributes: childAttributes(root),
    authPolicy: EMPTY,
    parameters: { scheme: NO_SCHEME },
    unique,
  };
}

/** An asymmetric public area of a guest's. */
export type AsymmetricPublic = Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.RSA | typeof TPM_ALG.ECC }>;

/**
 * The chip's key below `root` behind a guest's asymmetric key: unrestricted, without scheme, so that tpmux decides what it
 * computes; it can sign or decrypt as the guest's key can. `unique` is the guest's. A key that is `imported` is not fixed to
 * its parent, or the chip would not take it; without a policy it cannot be duplicated all the same.
 */
export function guestKeyPublic(root: TPMT_PUBLIC, guest: AsymmetricPublic, imported = false): TPMT_PUBLIC {
  const use = guest.objectAttributes & (TPMA_OBJECT.sign | TPMA_OBJECT.decrypt);
  const origin = imported ? 0 : TPMA_OBJECT.sensitiveDataOrigin;
  const common = {
    nameAlg: NAME_ALG,
    objectAttributes: (childAttributes(root) & ~(imported ? FIXED : 0)) | origin | use,
    authPolicy: EMPTY,
  } as const;
  if (guest.type === TPM_ALG.RSA) {
    const { keyBits } = guest.parameters;
    return {
      ...common,
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
    unique: guest.unique,
  };
}
