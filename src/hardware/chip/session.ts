// TPM 2.0 Library Part 1, 19.6 and 21: the one HMAC session that tpmux keeps in the chip.
import { createPublicKey, diffieHellman, generateKeyPairSync, randomBytes, timingSafeEqual, type JsonWebKey } from 'node:crypto';
import { TPM_ALG, TPM_RH, TPM_SE, TPMA_SESSION } from '../../tpm/constants/index.js';
import { encode } from '../../tpm/schema.js';
import type { Command } from '../../tpm/command.js';
import { StartAuthSession } from '../../tpm/commands/index.js';
import { KDFe } from '../../tpm/kdf.js';
import { cpHash, cryptParameter, rpHash, sessionHmac, sessionKey, trimAuth } from '../../tpm/session-crypto.js';
import { ResponseForged } from '../../tpm/response-error.js';
import { TPMS_ECC_POINT, type TPMS_AUTH_COMMAND, type TPMS_AUTH_RESPONSE } from '../../tpm/structures/index.js';
import { ChipError } from './errors.js';
import type { CommandSender } from './sender.js';

const ALG = TPM_ALG.SHA256;
const NONCE_SIZE = 32;
const SYMMETRIC = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB } as const;

/** The key that the session's secret is agreed with: the host root, known to be the chip's. */
export interface SaltKey {
  readonly handle: number;
  /** Its public point on P-256. */
  readonly point: { readonly x: Buffer; readonly y: Buffer };
}

interface Established {
  readonly handle: number;
  readonly key: Buffer;
  nonceTPM: Buffer;
}

/** A command that was prepared with {@link ChipSession.authorize} and waits for its response. */
export interface PendingAuthorization {
  readonly auth: TPMS_AUTH_COMMAND;
  readonly key: Buffer;
  readonly of: Command;
  readonly session: Established;
}

/**
 * A long-lived HMAC session with the chip: not bound, salted with the host root, AES-128-CFB parameter encryption, SHA-256.
 * It authorizes every command that needs it, hides the first parameter of command and response from who listens to the bus,
 * and proves that the response is the chip's. It is started when it is first needed and again when it was lost.
 */
export class ChipSession {
  private readonly saltKey: SaltKey;
  private current: Established | undefined;
  private stale: number | undefined;

  constructor(saltKey: SaltKey) {
    this.saltKey = saltKey;
  }

  /** The session's handle, if it exists. */
  get handle(): number | undefined {
    return this.current?.handle;
  }

  /** Starts the session in the chip unless it is there. Rejects as {@link CommandSender.execute} does. */
  async ensure(sender: CommandSender): Promise<void> {
    if (this.current !== undefined) return;
    await this.flushStale(sender);
    const nonceCaller = randomBytes(NONCE_SIZE);
    const { salt, encryptedSalt } = makeSalt(this.saltKey);
    const response = await sender.execute(StartAuthSession, {
      tpmKey: this.saltKey.handle,
      bind: TPM_RH.NULL,
      nonceCaller,
      encryptedSalt,
      sessionType: TPM_SE.HMAC,
      symmetric: SYMMETRIC,
      authHash: ALG,
    });
    const nonceTPM = Buffer.from(response.nonceTPM);
    this.current = { handle: response.sessionHandle, key: sessionKey(ALG, undefined, salt, nonceTPM, nonceCaller), nonceTPM };
    salt.fill(0);
  }

  /**
   * Prepares a command: encrypts its first parameter in place, if it is a sized buffer, and makes the authorization.
   * @param names Names of the command's handles
   * @param authValue of the entity that the session authorizes; undefined if it only protects the command
   */
  authorize(of: Command, names: readonly Buffer[], parameters: Buffer, authValue: Buffer | undefined): PendingAuthorization {
    const session = this.current;
    if (session === undefined) throw new Error('the session with the TPM is not started');
    const nonceCaller = randomBytes(NONCE_SIZE);
    const sessionAttributes =
      TPMA_SESSION.continueSession | (of.decryptable ? TPMA_SESSION.decrypt : 0) | (of.encryptable ? TPMA_SESSION.encrypt : 0);
    const key = Buffer.concat([session.key, trimAuth(authValue ?? Buffer.alloc(0))]);
    const nonces = { nonceNewer: nonceCaller, nonceOlder: session.nonceTPM };
    if (of.decryptable) cryptParameter('encrypt', { alg: ALG, symmetric: SYMMETRIC, key, ...nonces }, parameters);
    const hmac = sessionHmac({ alg: ALG, key, pHash: cpHash(ALG, of.code, names, parameters), ...nonces, sessionAttributes });
    return { auth: { sessionHandle: session.handle, nonce: nonceCaller, sessionAttributes, hmac }, key, of, session };
  }

  /**
   * Verifies the response to a prepared command and decrypts its first parameter in place.
   * @throws {ResponseForged} if the HMAC is wrong; the session is then not used again
   */
  accept(pending: PendingAuthorization, parameters: Buffer, answer: TPMS_AUTH_RESPONSE): void {
    const { session, key, of, auth } = pending;
    const { nonce: nonceTPM, sessionAttributes } = answer;
    const nonces = { nonceNewer: nonceTPM, nonceOlder: auth.nonce };
    const expected = sessionHmac({ alg: ALG, key, pHash: rpHash(ALG, 0, of.code, parameters), ...nonces, sessionAttributes });
    if (answer.hmac.length !== expected.length || !timingSafeEqual(answer.hmac, expected)) {
      this.distrust();
      throw new ResponseForged(of.name, 'its HMAC is wrong');
    }
    session.nonceTPM = Buffer.from(nonceTPM);
    if (of.encryptable) cryptParameter('decrypt', { alg: ALG, symmetric: SYMMETRIC, key, ...nonces }, parameters);
  }

  /** Takes the session out of the chip. */
  async end(sender: CommandSender): Promise<void> {
    this.distrust();
    await this.flushStale(sender);
  }

  /** The chip and we no longer agree: a new session is started for the next command, the old one is flushed before. */
  distrust(): void {
    this.stale = this.current?.handle ?? this.stale;
    this.forget();
  }

  /** The session is no longer in the chip. */
  forget(): void {
    this.current?.key.fill(0);
    this.current = undefined;
  }

  /** The chip was restarted: a session that still waited to be flushed is gone too. */
  reset(): void {
    this.forget();
    this.stale = undefined;
  }

  private async flushStale(sender: CommandSender): Promise<void> {
    const handle = this.stale;
    this.stale = undefined;
    if (handle !== undefined) await sender.flush(handle).catch(ignoreChipError);
  }
}

/** A fresh secret agreed with the chip's key (Part 1, C.6.1), and what the chip needs to compute it. */
function makeSalt({ point }: SaltKey): { salt: Buffer; encryptedSalt: Buffer } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const chipKey = createPublicKey({ key: p256Jwk(point), format: 'jwk' });
  const z = diffieHellman({ privateKey, publicKey: chipKey });
  const own = publicKey.export({ format: 'jwk' });
  const ephemeral = { x: Buffer.from(own.x ?? '', 'base64url'), y: Buffer.from(own.y ?? '', 'base64url') };
  const salt = KDFe(ALG, z, 'SECRET', ephemeral.x, padTo32(point.x), 256);
  z.fill(0);
  return { salt, encryptedSalt: encode(TPMS_ECC_POINT, ephemeral) };
}

function p256Jwk(point: SaltKey['point']): JsonWebKey {
  return { kty: 'EC', crv: 'P-256', x: padTo32(point.x).toString('base64url'), y: padTo32(point.y).toString('base64url') };
}

function padTo32(number: Buffer): Buffer {
  return Buffer.concat([Buffer.alloc(Math.max(0, 32 - number.length)), number]);
}

function ignoreChipError(error: unknown): void {
  if (!(error instanceof ChipError)) throw error;
}
