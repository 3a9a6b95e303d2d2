// Wrapping a secret for the holder of an X25519 key that is kept away from this host: HPKE (RFC 9180) in base mode with
// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM.
//
//   version (1) || encapsulated key (32) || ciphertext and tag
//   info = 'tpmux recovery key' || 0 || context; AAD = version
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core';
import { createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync, type KeyObject, type webcrypto } from 'node:crypto';

declare global {
  /** The library's declarations take it from the DOM's. */
  type CryptoKey = webcrypto.CryptoKey;
}

const VERSION = 1;
const POINT_SIZE = 32;
const TAG_SIZE = 16;
const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });

/** A key or a wrapped secret that cannot be used; the message says why. */
export class RecoveryKeyError extends Error {
  override readonly name = 'RecoveryKeyError';
}

/** The 32 bytes of an X25519 public key in PEM. Throws {@link RecoveryKeyError}. A private key is refused: it does not belong here. */
export function parseRecoveryPublicKey(pem: string): Buffer {
  if (/PRIVATE KEY/.test(pem))
    throw new RecoveryKeyError('it is a private key; give the public one and keep the private one away from this host');
  const publicKey = parse(() => createPublicKey(pem), 'public');
  try {
    diffieHellman({ privateKey: generateKeyPairSync('x25519').privateKey, publicKey }).fill(0);
  } catch {
    throw new RecoveryKeyError('it is a point of small order, for which no secret can be wrapped');
  }
  return member(publicKey, 'x');
}

/** The 32 bytes of the public key of an X25519 private key in PEM. Throws {@link RecoveryKeyError}. */
export function publicKeyOf(privatePem: string): Buffer {
  return member(privateKeyOf(privatePem), 'x');
}

/**
 * Wraps `secret` for the holder of the private key. `context` must be the same at {@link unwrapSecret}. Rejects with
 * {@link RecoveryKeyError} if `recipient` is no key that a secret can be agreed with.
 */
export async function wrapSecret(recipient: Buffer, secret: Buffer, context: string): Promise<Buffer> {
  try {
    const recipientPublicKey = await suite.kem.deserializePublicKey(new Uint8Array(recipient));
    const { enc, ct } = await suite.seal({ recipientPublicKey, info: info(context) }, new Uint8Array(secret), Uint8Array.of(VERSION));
    return Buffer.concat([Buffer.of(VERSION), new Uint8Array(enc), new Uint8Array(ct)]);
  } catch (error) {
    throw new RecoveryKeyError('no secret can be wrapped for this key', { cause: error });
  }
}

/** What {@link wrapSecret} wrapped; the caller zeroizes it. Rejects with {@link RecoveryKeyError}. */
export async function unwrapSecret(privatePem: string, wrapped: Buffer, context: string): Promise<Buffer> {
  const scalar = member(privateKeyOf(privatePem), 'd');
  if (wrapped.length < 1 + POINT_SIZE + TAG_SIZE || wrapped[0] !== VERSION)
    throw new RecoveryKeyError('what it is to unwrap has an unknown form');
  const bytes = new Uint8Array(wrapped);
  try {
    const recipientKey = await suite.kem.deserializePrivateKey(new Uint8Array(scalar));
    const enc = bytes.subarray(1, 1 + POINT_SIZE);
    return Buffer.from(
      await suite.open({ recipientKey, enc, info: info(context) }, bytes.subarray(1 + POINT_SIZE), Uint8Array.of(VERSION)),
    );
  } catch {
    throw new RecoveryKeyError('it is not the key that this was wrapped for');
  } finally {
    scalar.fill(0);
  }
}

function info(context: string): Uint8Array {
  return new Uint8Array(Buffer.from(`tpmux recovery key\0${context}`, 'utf8'));
}

function privateKeyOf(pem: string): KeyObject {
  return parse(() => createPrivateKey(pem), 'private');
}

function parse(read: () => KeyObject, kind: string): KeyObject {
  let key: KeyObject;
  try {
    key = read();
  } catch {
    throw new RecoveryKeyError(`it is not a ${kind} key in PEM`);
  }
  if (key.asymmetricKeyType !== 'x25519') throw new RecoveryKeyError(`it is of type ${key.asymmetricKeyType ?? 'secret'}, not x25519`);
  return key;
}

/** Public (`x`) or private (`d`) bytes of a key (RFC 8037). */
function member(key: KeyObject, name: 'x' | 'd'): Buffer {
  return Buffer.from(key.export({ format: 'jwk' })[name] ?? '', 'base64url');
}
