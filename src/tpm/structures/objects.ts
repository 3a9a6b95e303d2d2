// TPM 2.0 Library Part 2, 12: public, sensitive and private areas of objects.
import { HASH_ALGORITHMS, MAX_DIGEST_SIZE, MAX_PRIVATE_SIZE, RSA_PRIVATE_SIZE, TPM_ALG } from '../constants/index.js';
import { TPM_RC } from '../response-code.js';
import { type Infer, oneOf, select, sized, sizedOrNull, struct, tpm2b, uint16, uint32, union } from '../schema.js';
import { TPMI_ALG_HASH_PLUS, TPMI_ALG_PUBLIC, TPMI_ECC_CURVE, TPMI_RSA_KEY_BITS } from './algorithms.js';
import { TPM2B_ECC_PARAMETER, TPM2B_PRIVATE_KEY_RSA, TPM2B_PUBLIC_KEY_RSA, TPMS_ECC_POINT } from './asymmetric.js';
import { TPMA_OBJECT_FIELD } from './constants.js';
import { TPM2B_AUTH, TPM2B_DIGEST } from './digests.js';
import {
  TPMT_ASYM_SCHEME_PLUS,
  TPMT_ECC_SCHEME_PLUS,
  TPMT_KDF_SCHEME_PLUS,
  TPMT_KEYEDHASH_SCHEME_PLUS,
  TPMT_RSA_SCHEME_PLUS,
} from './schemes.js';
import { TPM2B_SENSITIVE_DATA, TPM2B_SYM_KEY, TPMS_DERIVE, TPMS_SYMCIPHER_PARMS, TPMT_SYM_DEF_OBJECT_PLUS } from './symmetric.js';

/** What makes an object unique: its public key, or a digest of its secret (Part 2, 12.2.3.2). */
export const TPMU_PUBLIC_ID = union({
  [TPM_ALG.KEYEDHASH]: TPM2B_DIGEST,
  [TPM_ALG.SYMCIPHER]: TPM2B_DIGEST,
  [TPM_ALG.RSA]: TPM2B_PUBLIC_KEY_RSA,
  [TPM_ALG.ECC]: TPMS_ECC_POINT,
});

export const TPMS_KEYEDHASH_PARMS = struct({ scheme: TPMT_KEYEDHASH_SCHEME_PLUS });
export type TPMS_KEYEDHASH_PARMS = Infer<typeof TPMS_KEYEDHASH_PARMS>;
/** What RSA and ECC parameters have in common (Part 2, 12.2.3.4). */
export const TPMS_ASYM_PARMS = struct({ symmetric: TPMT_SYM_DEF_OBJECT_PLUS, scheme: TPMT_ASYM_SCHEME_PLUS });
export type TPMS_ASYM_PARMS = Infer<typeof TPMS_ASYM_PARMS>;
/** Parameters of an RSA key; an exponent of 0 means 65537 (Part 2, 12.2.3.5). */
export const TPMS_RSA_PARMS = struct({
  symmetric: TPMT_SYM_DEF_OBJECT_PLUS,
  scheme: TPMT_RSA_SCHEME_PLUS,
  keyBits: TPMI_RSA_KEY_BITS,
  exponent: uint32,
});
export type TPMS_RSA_PARMS = Infer<typeof TPMS_RSA_PARMS>;
export const TPMS_ECC_PARMS = struct({
  symmetric: TPMT_SYM_DEF_OBJECT_PLUS,
  scheme: TPMT_ECC_SCHEME_PLUS,
  curveID: TPMI_ECC_CURVE,
  kdf: TPMT_KDF_SCHEME_PLUS,
});
export type TPMS_ECC_PARMS = Infer<typeof TPMS_ECC_PARMS>;

export const TPMU_PUBLIC_PARMS = union({
  [TPM_ALG.KEYEDHASH]: TPMS_KEYEDHASH_PARMS,
  [TPM_ALG.SYMCIPHER]: TPMS_SYMCIPHER_PARMS,
  [TPM_ALG.RSA]: TPMS_RSA_PARMS,
  [TPM_ALG.ECC]: TPMS_ECC_PARMS,
});
/** Type and parameters, as `TestParms` takes them (Part 2, 12.2.3.8). */
export const TPMT_PUBLIC_PARMS = struct({ type: TPMI_ALG_PUBLIC, parameters: select('type', TPMU_PUBLIC_PARMS) });
export type TPMT_PUBLIC_PARMS = Infer<typeof TPMT_PUBLIC_PARMS>;

/** Public area (Part 2, 12.2.4). A `nameAlg` of `NULL` is `TPM_RC_HASH`, though the type has it: see {@link TPMT_PUBLIC_PLUS}. */
export const TPMT_PUBLIC = struct({
  type: TPMI_ALG_PUBLIC,
  nameAlg: oneOf<TPMI_ALG_HASH_PLUS>(uint16, HASH_ALGORITHMS, TPM_RC.HASH),
  objectAttributes: TPMA_OBJECT_FIELD,
  authPolicy: TPM2B_DIGEST,
  parameters: select('type', TPMU_PUBLIC_PARMS),
  unique: select('type', TPMU_PUBLIC_ID),
});
export type TPMT_PUBLIC = Infer<typeof TPMT_PUBLIC>;
/** Public area of a loaded object, whose `nameAlg` may be `NULL`: no Name, no protected storage. The type is the same. */
export const TPMT_PUBLIC_PLUS = struct({
  type: TPMI_ALG_PUBLIC,
  nameAlg: TPMI_ALG_HASH_PLUS,
  objectAttributes: TPMA_OBJECT_FIELD,
  authPolicy: TPM2B_DIGEST,
  parameters: select('type', TPMU_PUBLIC_PARMS),
  unique: select('type', TPMU_PUBLIC_ID),
});
export type TPMT_PUBLIC_PLUS = TPMT_PUBLIC;
export const TPM2B_PUBLIC = sized(TPMT_PUBLIC);
export const TPM2B_PUBLIC_PLUS = sized(TPMT_PUBLIC_PLUS);
/** A template as bytes: a {@link TPMT_PUBLIC}, or for a derivation parent a {@link TPMT_TEMPLATE_DERIVE} (Part 2, 12.2.6). */
export const TPM2B_TEMPLATE = tpm2b(612);
/** Template of a derived object: `unique` is label and context, whatever the type. */
export const TPMT_TEMPLATE_DERIVE = struct({
  type: TPMI_ALG_PUBLIC,
  nameAlg: oneOf<TPMI_ALG_HASH_PLUS>(uint16, HASH_ALGORITHMS, TPM_RC.HASH),
  objectAttributes: TPMA_OBJECT_FIELD,
  authPolicy: TPM2B_DIGEST,
  parameters: select('type', TPMU_PUBLIC_PARMS),
  unique: TPMS_DERIVE,
});
export type TPMT_TEMPLATE_DERIVE = Infer<typeof TPMT_TEMPLATE_DERIVE>;

/** Private key of a vendor's own format: at most the five numbers of an RSA key in CRT form. */
export const TPM2B_PRIVATE_VENDOR_SPECIFIC = tpm2b(RSA_PRIVATE_SIZE);
/** Prime factor, private scalar, data or key (Part 2, 12.3.2.3). */
export const TPMU_SENSITIVE_COMPOSITE = union({
  [TPM_ALG.RSA]: TPM2B_PRIVATE_KEY_RSA,
  [TPM_ALG.ECC]: TPM2B_ECC_PARAMETER,
  [TPM_ALG.KEYEDHASH]: TPM2B_SENSITIVE_DATA,
  [TPM_ALG.SYMCIPHER]: TPM2B_SYM_KEY,
});
/** Sensitive area (Part 2, 12.3.2.4). */
export const TPMT_SENSITIVE = struct({
  sensitiveType: TPMI_ALG_PUBLIC,
  authValue: TPM2B_AUTH,
  seedValue: TPM2B_DIGEST,
  sensitive: select('sensitiveType', TPMU_SENSITIVE_COMPOSITE),
});
export type TPMT_SENSITIVE = Infer<typeof TPMT_SENSITIVE>;
/** A sensitive area, or none (`null`). */
export const TPM2B_SENSITIVE = sizedOrNull(TPMT_SENSITIVE);
/** An encrypted sensitive area; whoever made it knows the format (Part 2, 12.3.7). */
export const TPM2B_PRIVATE = tpm2b(MAX_PRIVATE_SIZE);

/** An encrypted credential (Part 2, 12.4.2). */
export const TPMS_ID_OBJECT = struct({ integrityHMAC: TPM2B_DIGEST, encIdentity: TPM2B_DIGEST });
export type TPMS_ID_OBJECT = Infer<typeof TPMS_ID_OBJECT>;
/** A {@link TPMS_ID_OBJECT} as bytes. */
export const TPM2B_ID_OBJECT = tpm2b(2 * (MAX_DIGEST_SIZE + 2));
