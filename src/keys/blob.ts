// The contents of a TPM2B_PRIVATE that a guest gets: the protected private part of one object (Part 1, 22.4, in tpmux's own format).
//
//   engine id (1) || AES-SIV(key, plaintext): tag (16) || cipher text                                                    (RFC 5297)
//   plaintext = size of authValue (1) || authValue || what the engine serialized
//   AAD       = version || engine id; name; parentName
//
// Blobs are kept small, because there are guests with little room for them (Linux takes at most 512 bytes of an answer to TPM2_Create for a
// trusted key): the tag is the nonce as well. That two blobs of the same object are alike tells a guest nothing.
import { hkdfSync } from 'node:crypto';
import { aessiv } from '@noble/ciphers/aes.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';

const VERSION = 2;
const SIV_KEY_SIZE = 64;
const TAG_SIZE = 16;
/** Engine, tag and size of the authValue. */
const OVERHEAD = 1 + TAG_SIZE + 1;

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
 * bound to the object's Name and its parent's. 18 bytes longer than `authValue` and `serialized`.
 */
export function sealPrivate(blobKey: Buffer, contents: PrivateContents, name: Buffer, parentName: Buffer): Buffer {
  const { engineId, authValue, serialized } = contents;
  const plain = Buffer.concat([Buffer.of(authValue.length), authValue, serialized]);
  try {
    return withCipher(blobKey, [Buffer.of(VERSION, engineId), name, parentName], (cipher) =>
      Buffer.concat([Buffer.of(engineId), cipher.encrypt(plain)]),
    );
  } finally {
    plain.fill(0);
  }
}

/**
 * What {@link sealPrivate} protected, as buffers of the caller, who zeroizes them. `TPM_RC_INTEGRITY` if the blob was changed,
 * is another guest's, or belongs to another Name or parent.
 */
export function openPrivate(blobKey: Buffer, blob: Buffer, name: Buffer, parentName: Buffer): PrivateContents {
  if (blob.length < OVERHEAD) throw new TpmError(TPM_RC.INTEGRITY);
  const engineId = blob.readUInt8(0);
  const plain = withCipher(blobKey, [Buffer.of(VERSION, engineId), name, parentName], (cipher) => decrypt(cipher, blob.subarray(1)));
  const authEnd = 1 + plain.readUInt8(0);
  if (authEnd > plain.length) throw new TpmError(TPM_RC.INTEGRITY);
  return { engineId, authValue: plain.subarray(1, authEnd), serialized: plain.subarray(authEnd) };
}

type Siv = ReturnType<typeof aessiv>;

function decrypt(cipher: Siv, sealed: Buffer): Buffer {
  let plain: Uint8Array;
  try {
    plain = cipher.decrypt(sealed);
  } catch {
    throw new TpmError(TPM_RC.INTEGRITY);
  }
  return Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
}

function withCipher<T>(blobKey: Buffer, aad: readonly Buffer[], use: (cipher: Siv) => T): T {
  const key = Buffer.from(hkdfSync('sha256', blobKey, Buffer.alloc(0), 'tpmux private blob', SIV_KEY_SIZE));
  try {
    return use(aessiv(key, ...aad));
  } finally {
    key.fill(0);
  }
}
