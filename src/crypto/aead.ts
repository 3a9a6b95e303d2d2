// Authenticated encryption of what tpmux keeps or hands out: AES-256-GCM (NIST SP 800-38D).
import { createCipheriv, createDecipheriv } from 'node:crypto';

/** Bytes of a key. */
export const AEAD_KEY_SIZE = 32;
/** Bytes of a nonce, which is used once per key. */
export const AEAD_NONCE_SIZE = 12;
/** Bytes that {@link sealAead} adds. */
export const AEAD_TAG_SIZE = 16;

/** Encrypts the parts one after the other and authenticates them together with `aad`: cipher text, then the tag. */
export function sealAead(key: Buffer, nonce: Buffer, aad: Buffer, ...parts: readonly Buffer[]): Buffer {
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: AEAD_TAG_SIZE }).setAAD(aad);
  const encrypted = parts.map((part) => cipher.update(part));
  return Buffer.concat([...encrypted, cipher.final(), cipher.getAuthTag()]);
}

/** What {@link sealAead} was given, in a buffer of the caller's; undefined if it is too short or was not made with these inputs. */
export function openAead(key: Buffer, nonce: Buffer, aad: Buffer, sealed: Buffer): Buffer | undefined {
  const tagAt = sealed.length - AEAD_TAG_SIZE;
  if (tagAt < 0) return undefined;
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: AEAD_TAG_SIZE });
  decipher.setAAD(aad).setAuthTag(sealed.subarray(tagAt));
  const clear = decipher.update(sealed.subarray(0, tagAt));
  try {
    decipher.final();
    return clear;
  } catch {
    clear.fill(0);
    return undefined;
  }
}
