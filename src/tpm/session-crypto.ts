// TPM 2.0 Library Part 1, 16.7, 16.8, 19.6 and 21: the arithmetic of sessions. Pure functions that serve both ends of a
// session: the guest's, where we are the TPM, and the chip's, where we are the caller.
import { cfb, cipherBlockSize, type Direction } from './block-cipher.js';
import { TPM_ALG } from './constants/index.js';
import { digestSize, hash, hmac } from './hash.js';
import { KDFa, xorObfuscate } from './kdf.js';
import { TPM_RC, TpmError } from './response-code.js';
import { uint32Bytes } from './wire.js';

const none = Buffer.alloc(0);

/** `cpHash` (16.7): of a command's code, the Names of its handles and its parameter area as it is transmitted, encrypted or not. */
export function cpHash(alg: number, commandCode: number, names: readonly Uint8Array[], parameters: Uint8Array): Buffer {
  return hash(alg, uint32Bytes(commandCode), ...names, parameters);
}

/** `rpHash` (16.8): of a response's code (always success), the command's code and the parameter area as it is transmitted. */
export function rpHash(alg: number, responseCode: number, commandCode: number, parameters: Uint8Array): Buffer {
  return hash(alg, uint32Bytes(responseCode), uint32Bytes(commandCode), parameters);
}

/** What an HMAC of an authorization is made of (19.6.5). */
export interface SessionHmacInput {
  readonly alg: number;
  /** `sessionKey || authValue`, the latter only where the session includes it. */
  readonly key: Uint8Array;
  /** `cpHash` or `rpHash`. */
  readonly pHash: Uint8Array;
  /** In a command `nonceCaller`, in a response `nonceTPM`. */
  readonly nonceNewer: Uint8Array;
  readonly nonceOlder: Uint8Array;
  /** `nonceTPM` of a separate decrypt session; only in the first session of a command. */
  readonly nonceDecrypt?: Uint8Array;
  /** `nonceTPM` of a separate encrypt session; only in the first session of a command, and not if it is the decrypt session too. */
  readonly nonceEncrypt?: Uint8Array;
  readonly sessionAttributes: number;
}

/** The HMAC of an authorization (19.6.5). */
export function sessionHmac(input: SessionHmacInput): Buffer {
  const { alg, key, pHash, nonceNewer, nonceOlder, nonceDecrypt = none, nonceEncrypt = none, sessionAttributes } = input;
  return hmac(alg, key, pHash, nonceNewer, nonceOlder, nonceDecrypt, nonceEncrypt, Uint8Array.of(sessionAttributes));
}

/**
 * `sessionKey` (19.6.8) of a new session. `bindAuth` is the authorization value of the bind entity without trailing zeros,
 * undefined if the session is not bound; `salt` is empty if it is not salted. A session that is neither has an empty key.
 */
export function sessionKey(
  alg: number,
  bindAuth: Uint8Array | undefined,
  salt: Uint8Array,
  nonceTPM: Uint8Array,
  nonceCaller: Uint8Array,
): Buffer {
  if (bindAuth === undefined && salt.length === 0) return none;
  const key = Buffer.concat([bindAuth ?? none, salt]);
  const result = KDFa(alg, key, 'ATH', nonceTPM, nonceCaller, digestSize(alg) * 8);
  key.fill(0);
  return result;
}

/** How a session encrypts parameters: a `TPMT_SYM_DEF`. XOR uses the session's hash, whatever hash `keyBits` names. */
export interface ParameterCipher {
  readonly algorithm: number;
  readonly keyBits: number | null;
}

/** What encrypts a parameter (21.2, 21.3). */
export interface ParameterCipherInput {
  readonly alg: number;
  readonly symmetric: ParameterCipher;
  /** `sessionKey || authValue`, the latter if the session authorizes an entity. */
  readonly key: Uint8Array;
  /** In a command `nonceCaller`, in a response `nonceTPM`. */
  readonly nonceNewer: Uint8Array;
  readonly nonceOlder: Uint8Array;
}

/**
 * Encrypts or decrypts, in place, the first parameter of a parameter area, which is a `TPM2B`; its size stays in clear.
 * `TPM_RC_INSUFFICIENT` if there is no size, `TPM_RC_SIZE` if it exceeds the area, `TPM_RC_SYMMETRIC` if the session has no cipher.
 */
export function cryptParameter(direction: Direction, input: ParameterCipherInput, parameters: Buffer): void {
  if (parameters.length < 2) throw new TpmError(TPM_RC.INSUFFICIENT);
  const size = parameters.readUInt16BE(0);
  if (size > parameters.length - 2) throw new TpmError(TPM_RC.SIZE);
  const data = parameters.subarray(2, 2 + size);
  const { alg, symmetric, key, nonceNewer, nonceOlder } = input;
  if (symmetric.algorithm === TPM_ALG.XOR) {
    xorObfuscate(alg, key, nonceNewer, nonceOlder, data);
    return;
  }
  const blockBytes = cipherBlockSize(symmetric.algorithm);
  if (blockBytes === 0) throw new TpmError(TPM_RC.SYMMETRIC);
  const keyBytes = (symmetric.keyBits ?? 0) / 8;
  const keyAndIv = KDFa(alg, key, 'CFB', nonceNewer, nonceOlder, (keyBytes + blockBytes) * 8);
  const out = cfb(direction, symmetric.algorithm, keyAndIv.subarray(0, keyBytes), keyAndIv.subarray(keyBytes), data);
  out.copy(data);
  out.fill(0);
  keyAndIv.fill(0);
}

/** An authorization value without its trailing zero bytes (17.6.4.3), as a view. */
export function trimAuth(auth: Buffer): Buffer {
  let size = auth.length;
  while (size > 0 && auth[size - 1] === 0) size--;
  return auth.subarray(0, size);
}
