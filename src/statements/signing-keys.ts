// Keys of issuers: Ed25519, ECDSA on P-256 with SHA-256, RSA of at least 2048 bits with SHA-256.
import {
  constants,
  createHash,
  createPrivateKey,
  createPublicKey,
  sign,
  verify,
  type KeyObject,
  type SignKeyObjectInput,
  type VerifyKeyObjectInput,
} from 'node:crypto';
import { reasonOf } from '../failure.js';
import { PropertyError } from './property-error.js';

const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 8192;
const P256_SIGNATURE_SIZE = 64;

/** How signatures of a key are made. */
type KeyKind = 'ed25519' | 'ecdsa-p256' | 'rsa';

/** A public key of an issuer. */
export interface VerificationKey {
  /** SHA-256 of the SubjectPublicKeyInfo (DER), in hexadecimal: `keyid` of signatures. */
  readonly keyid: string;
  readonly kind: KeyKind;
  readonly key: KeyObject;
}

/** A private key of an issuer. */
export interface SigningKey extends VerificationKey {
  readonly privateKey: KeyObject;
}

/** Reads a public key, or the public part of a private one, in PEM. Throws {@link PropertyError} `unsupported_key`. */
export function readPublicKey(pem: string | Buffer): VerificationKey {
  return describe(parsed(() => createPublicKey(pem)));
}

/** Reads a private key in PEM, without a passphrase. Throws {@link PropertyError} `unsupported_key`. */
export function readPrivateKey(pem: string | Buffer): SigningKey {
  const privateKey = parsed(() => createPrivateKey(pem));
  return { ...describe(createPublicKey(privateKey)), privateKey };
}

/** Signs: 64 bytes with Ed25519, DER with ECDSA, PSS (salt of 32 bytes) with RSA. */
export function signWith({ kind, privateKey }: SigningKey, data: Buffer): Buffer {
  const key: SignKeyObjectInput =
    kind === 'rsa' ? { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 } : { key: privateKey };
  return sign(kind === 'ed25519' ? null : 'sha256', data, key);
}

/**
 * Whether `signature` over `data` is the key's. ECDSA signatures are DER or 64 bytes of r and s; RSA signatures are PSS or
 * PKCS #1 v1.5, as signing tools differ. Takes 0.1 ms, or as many as it has ways with large RSA keys. Never throws.
 */
export function verifyWith({ kind, key }: VerificationKey, data: Buffer, signature: Buffer): boolean {
  return waysToVerify(kind, key, signature).some((input) => {
    try {
      return verify(kind === 'ed25519' ? null : 'sha256', data, input, signature);
    } catch {
      return false;
    }
  });
}

function waysToVerify(kind: KeyKind, key: KeyObject, signature: Buffer): VerifyKeyObjectInput[] {
  switch (kind) {
    case 'ed25519':
      return [{ key }];
    case 'ecdsa-p256':
      return signature.length === P256_SIGNATURE_SIZE ? [{ key, dsaEncoding: 'ieee-p1363' }, { key }] : [{ key }];
    case 'rsa':
      return [
        { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_AUTO },
        { key, padding: constants.RSA_PKCS1_PADDING },
      ];
  }
}

function parsed(read: () => KeyObject): KeyObject {
  try {
    return read();
  } catch (error) {
    throw new PropertyError('unsupported_key', `it holds no key in PEM: ${reasonOf(error)}`, { cause: error });
  }
}

function describe(key: KeyObject): VerificationKey {
  const keyid = createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex');
  return { keyid, kind: kindOf(key), key };
}

function kindOf({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): KeyKind {
  const { namedCurve, modulusLength = 0 } = asymmetricKeyDetails ?? {};
  if (asymmetricKeyType === 'ed25519') return 'ed25519';
  if (asymmetricKeyType === 'ec' && namedCurve === 'prime256v1') return 'ecdsa-p256';
  if (asymmetricKeyType === 'rsa' && modulusLength >= MIN_RSA_BITS && modulusLength <= MAX_RSA_BITS) return 'rsa';
  throw new PropertyError('unsupported_key', 'it is none of Ed25519, ECDSA P-256 and RSA of 2048 to 8192 bits');
}
