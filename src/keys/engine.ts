// Key engines: who holds a private key and computes with it.
import type {
  TPMS_ECC_POINT,
  TPMT_PUBLIC,
  TPMT_RSA_DECRYPT,
  TPMT_SENSITIVE,
  TPMT_SIGNATURE,
  TPMT_SIG_SCHEME,
} from '../tpm/structures/index.js';

/** The secret part of an object (Part 2, 12.3.2: `seedValue` and `sensitive`). */
export interface SymmetricSecret {
  /** Obfuscation value of a symmetric object's `unique`; the seed that protects the children of a parent. */
  readonly seedValue: Buffer;
  /** Sealed data, HMAC key or symmetric key; prime or scalar of an asymmetric key. */
  readonly sensitive: Buffer;
}

/**
 * The private part of one object. Operations reject with `TpmError` carrying a bare (unnumbered) code.
 * Which operations an object may be used for is the vTPM's to check; an engine only says what it cannot compute.
 */
export interface PrivatePart {
  /** {@link KeyEngine.id} of the engine that holds it. */
  readonly engineId: number;
  /**
   * Signs a digest with an asymmetric key. `scheme` is never NULL. `TPM_RC_SCHEME` if the engine lacks scheme or hash,
   * `TPM_RC_KEY_SIZE` or `TPM_RC_SIZE` if the key is too small for the digest.
   */
  sign(digest: Buffer, scheme: TPMT_SIG_SCHEME): Promise<TPMT_SIGNATURE>;
  /**
   * Opens `cipherText` with an RSA key. A NULL scheme is the raw operation, its result as long as the modulus.
   * `label` includes its terminating zero byte or is empty. `TPM_RC_VALUE` if padding is wrong, `TPM_RC_SIZE`.
   */
  rsaDecrypt(cipherText: Buffer, scheme: TPMT_RSA_DECRYPT, label: Buffer): Promise<Buffer>;
  /** The ECDH shared point `[d]point`. `TPM_RC_ECC_POINT` if the point is not on the curve, `TPM_RC_NO_RESULT` if infinity. */
  ecdhZGen(point: TPMS_ECC_POINT): Promise<TPMS_ECC_POINT>;
  /**
   * The secret of a keyedhash or symcipher object; of an asymmetric key its prime or scalar, if its public area is one that can be
   * duplicated (neither fixedTPM nor fixedParent), otherwise `TPM_RC_ATTRIBUTES`. The caller owns the copy and zeroizes it.
   */
  secret(): Promise<SymmetricSecret>;
  /** All that {@link KeyEngine.restore} needs, to be put into a protected blob; for software keys this is secret material. */
  serialize(): Buffer;
  /** Zeroizes what is in memory. The object is not used after that. */
  dispose(): void;
}

/** What a new key is made from. */
export interface CreateRequest {
  /**
   * The guest's template: type, parameters, nameAlg and attributes are final; `unique` is ignored, except that for a
   * seeded creation it is part of `context`.
   */
  readonly publicArea: TPMT_PUBLIC;
  /** `TPMS_SENSITIVE_CREATE.data`: sealed data, or a caller's HMAC or symmetric key; empty if the TPM is to generate it. */
  readonly sensitiveData: Buffer;
  /**
   * If given the key is a function of it: software only (NULL hierarchy primaries and derived keys).
   * `seed` is the secret, `context` what distinguishes this key.
   */
  readonly derivation?: { readonly seed: Buffer; readonly context: Buffer };
}

/** A new key: `publicArea` is the request's with `unique` filled in. */
export interface CreatedKey {
  readonly publicArea: TPMT_PUBLIC;
  readonly privatePart: PrivatePart;
}

/** Makes and restores private parts. */
export interface KeyEngine {
  /**
   * Takes over an object whose sensitive area comes from outside (`Import`). The areas were checked against each other; they are
   * copied where they are kept.
   */
  adopt(publicArea: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE): Promise<PrivatePart>;
  /** Stable one-byte tag, stored in blobs: 1 software, 2 hardware, 3 hardware and anchored. */
  readonly id: number;
  /** Whether this engine can hold a key with these parameters. */
  supports(publicArea: TPMT_PUBLIC): boolean;
  /** Makes a key. `TPM_RC_KEY_SIZE`, `TPM_RC_CURVE`, `TPM_RC_RANGE` (exponent) … where it cannot be. */
  create(request: CreateRequest): Promise<CreatedKey>;
  /** The private part of `publicArea` from what {@link PrivatePart.serialize} gave. No hardware command is sent by this. */
  restore(publicArea: TPMT_PUBLIC, serialized: Buffer): PrivatePart;
}
