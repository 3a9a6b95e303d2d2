// Wrapping a secret for the holder of an X25519 key that is kept away from this host (the scheme of RFC 9180 in base mode, in our own form).
//
//   version (1) || ephemeral public key (32) || AES-256-GCM(key, secret) || tag (16)
//   key = HKDF-SHA-256(X25519(ephemeral, recipient), salt = ephemeral public || recipient public, 'tpmux recovery key'), used once, so the IV is zero
//   AAD = version || context
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
} from 'node:crypto';

const VERSION = 1;
const POINT_SIZE = 32;
const TAG_SIZE = 16;
const IV = Buffer.alloc(12);
/** What precedes the 32 bytes of a key in the DER form of an X25519 public key (RFC 8410). */
const SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');

/** A key or a wrapped secret that cannot be used; the message says why. */
export class RecoveryKeyError extends Error {
  override readonly name = 'RecoveryKeyError';
}

/** The 32 bytes of an X25519 public key in PEM. Throws {@link RecoveryKeyError}. A private key is refused: it does not belong here. */
export function parseRecoveryPublicKey(pem: string): Buffer {
  if (/PRIVATE KEY/.test(pem))
    throw new RecoveryKeyError('it is a private key; give the public one and keep the private one away from this host');
  const key = parse(() => createPublicKey(pem), 'public');
  return pointOf(key);
}

/** The 32 bytes of the public key of an X25519 private key in PEM. Throws {@link RecoveryKeyError}. */
export function publicKeyOf(privatePem: string): Buffer {
  return pointOf(createPublicKey(parse(() => createPrivateKey(privatePem), 'private')));
}

/** Wraps `secret` for the holder of the private key. `context` must be the same at {@link unwrapSecret}. */
export function wrapSecret(recipient: Buffer, secret: Buffer, context: string): Buffer {
  const ephemeral = generateKeyPairSync('x25519');
  const point = pointOf(ephemeral.publicKey);
  const shared = diffieHellman({ privateKey: ephemeral.privateKey, publicKey: keyOf(recipient) });
  return withKey(shared, point, recipient, (key) => {
    const cipher = createCipheriv('aes-256-gcm', key, IV, { authTagLength: TAG_SIZE }).setAAD(associated(context));
    return Buffer.concat([Buffer.of(VERSION), point, cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
  });
}

/** What {@link wrapSecret} wrapped; the caller zeroizes it. Throws {@link RecoveryKeyError}. */
export function unwrapSecret(privatePem: string, wrapped: Buffer, context: string): Buffer {
  const privateKey = parse(() => createPrivateKey(privatePem), 'private');
  if (wrapped.length < 1 + POINT_SIZE + TAG_SIZE || wrapped[0] !== VERSION)
    throw new RecoveryKeyError('what it is to unwrap has an unknown form');
  const point = wrapped.subarray(1, 1 + POINT_SIZE);
  const shared = diffieHellman({ privateKey, publicKey: keyOf(point) });
  return withKey(shared, point, pointOf(createPublicKey(privateKey)), (key) => {
    const tagAt = wrapped.length - TAG_SIZE;
    const decipher = createDecipheriv('aes-256-gcm', key, IV, { authTagLength: TAG_SIZE }).setAAD(associated(context));
    decipher.setAuthTag(wrapped.subarray(tagAt));
    const secret = decipher.update(wrapped.subarray(1 + POINT_SIZE, tagAt));
    try {
      decipher.final();
      return secret;
    } catch {
      secret.fill(0);
      throw new RecoveryKeyError('it is not the key that this was wrapped for');
    }
  });
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

function pointOf(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length);
}

function keyOf(point: Buffer): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, point]), format: 'der', type: 'spki' });
}

function associated(context: string): Buffer {
  return Buffer.concat([Buffer.of(VERSION), Buffer.from(context, 'utf8')]);
}

function withKey<T>(shared: Buffer, ephemeral: Buffer, recipient: Buffer, use: (key: Buffer) => T): T {
  const key = Buffer.from(hkdfSync('sha256', shared, Buffer.concat([ephemeral, recipient]), 'tpmux recovery key', 32));
  try {
    return use(key);
  } finally {
    key.fill(0);
    shared.fill(0);
  }
}
