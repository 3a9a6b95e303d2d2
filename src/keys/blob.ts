// The contents of a TPM2B_PRIVATE that a guest gets: the protected private part of one object (Part 1, 22.4, in tpmux's own format).
//
//   version (1) || salt (32) || AES-256-GCM(key, plaintext) || tag (16)
//   key       = HKDF-SHA-256(blobKey, salt, 'tpmux private blob'), used once, so the IV is zero
//   plaintext = engine id (1) || size of authValue (2) || authValue || what the engine serialized
//   AAD       = version || size of name (2) || name || size of parentName (2) || parentName
import { hkdfSync, randomBytes } from 'node:crypto';
import { AEAD_KEY_SIZE, AEAD_NONCE_SIZE, openAead, sealAead } from '../crypto/aead.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';

const VERSION = 1;
const SALT_SIZE = 32;
/** Every salt makes a key of its own, used once. */
const NONCE = Buffer.alloc(AEAD_NONCE_SIZE);

/** What a private blob protects. */
export interface PrivateContents {
  /** {@link KeyEngine.id} of the engine that holds the key. */
  readonly engineId: number;
  /** The object's authorization value as the guest set it; at most 64 bytes. */
  readonly authValue: Buffer;
  /** {@link PrivatePart.serialize} of the key. */
  readonly serialized: Buffer;
}

/** The key that protects a guest's private blobs: 32 bytes, from the 32 bytes of its state key. */
export function deriveBlobKey(stateKey: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', stateKey, Buffer.alloc(0), 'tpmux blob', 32));
}

/**
 * The contents of the `TPM2B_PRIVATE` of an object: `contents`, encrypted under a key that only this guest's tpmux has, and
 * bound to the object's Name and its parent's. 52 bytes longer than `authValue` and `serialized`.
 */
export function sealPrivate(blobKey: Buffer, contents: PrivateContents, name: Buffer, parentName: Buffer): Buffer {
  const salt = randomBytes(SALT_SIZE);
  const header = Buffer.alloc(3);
  header.writeUInt8(contents.engineId, 0);
  header.writeUInt16BE(contents.authValue.length, 1);
  const { authValue, serialized } = contents;
  const sealed = withKey(blobKey, salt, (key) => sealAead(key, NONCE, boundTo(name, parentName), header, authValue, serialized));
  return Buffer.concat([Buffer.of(VERSION), salt, sealed]);
}

/**
 * What {@link sealPrivate} protected, as buffers of the caller, who zeroizes them. `TPM_RC_INTEGRITY` if the blob was changed,
 * is another guest's, or belongs to another Name or parent.
 */
export function openPrivate(blobKey: Buffer, blob: Buffer, name: Buffer, parentName: Buffer): PrivateContents {
  if (blob.length < 1 + SALT_SIZE || blob[0] !== VERSION) throw new TpmError(TPM_RC.INTEGRITY);
  const salt = blob.subarray(1, 1 + SALT_SIZE);
  const plain = withKey(blobKey, salt, (key) => openAead(key, NONCE, boundTo(name, parentName), blob.subarray(1 + SALT_SIZE)));
  if (plain === undefined || plain.length < 3) throw new TpmError(TPM_RC.INTEGRITY);
  const authEnd = 3 + plain.readUInt16BE(1);
  if (authEnd > plain.length) throw new TpmError(TPM_RC.INTEGRITY);
  return { engineId: plain.readUInt8(0), authValue: plain.subarray(3, authEnd), serialized: plain.subarray(authEnd) };
}

function boundTo(name: Buffer, parentName: Buffer): Buffer {
  const sizes = Buffer.alloc(4);
  sizes.writeUInt16BE(name.length, 0);
  sizes.writeUInt16BE(parentName.length, 2);
  return Buffer.concat([Buffer.of(VERSION), sizes.subarray(0, 2), name, sizes.subarray(2), parentName]);
}

function withKey<T>(blobKey: Buffer, salt: Buffer, use: (key: Buffer) => T): T {
  const key = Buffer.from(hkdfSync('sha256', blobKey, salt, 'tpmux private blob', AEAD_KEY_SIZE));
  try {
    return use(key);
  } finally {
    key.fill(0);
  }
}
