// The caller's end of HMAC and policy sessions, for tests.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { encapsulate } from '../../src/crypto/secrets.js';
import { encodeParameters, type Request, type Response } from '../../src/tpm/command.js';
import { FlushContext, StartAuthSession } from '../../src/tpm/commands/index.js';
import { HANDLE_RANGE, inRange, TPM_ALG, TPM_RH, TPM_SE, TPMA_SESSION } from '../../src/tpm/constants/index.js';
import { digestSize } from '../../src/tpm/hash.js';
import { nameOfHandle } from '../../src/tpm/name.js';
import { describeResponseCode, TPM_RC } from '../../src/tpm/response-code.js';
import { cpHash, cryptParameter, rpHash, sessionHmac, sessionKey, trimAuth } from '../../src/tpm/session-crypto.js';
import type { TPMS_AUTH_COMMAND, TPMT_PUBLIC, TPMT_SYM_DEF_PLUS } from '../../src/tpm/structures/index.js';
import { type AnyCommand, decodeOut, type Execute, handlesOf, none, password, rawFrame, run, splitResponse } from './frames.js';

/** AES-128 in CFB mode: for parameter encryption. */
export const aesCfb: TPMT_SYM_DEF_PLUS = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB };
const noCipher: TPMT_SYM_DEF_PLUS = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null };

/** How {@link ClientSession.start} starts one; an HMAC session with SHA-256, neither salted nor bound, unless told otherwise. */
export interface SessionOptions {
  readonly type?: TPM_SE;
  readonly authHash?: Request<typeof StartAuthSession>['authHash'];
  readonly symmetric?: TPMT_SYM_DEF_PLUS;
  /** A loaded decryption key that gets a salt. */
  readonly salt?: { readonly handle: number; readonly publicArea: TPMT_PUBLIC };
  readonly bind?: { readonly handle: number; readonly auth: Buffer };
}

/** A session as its caller knows it. */
export class ClientSession {
  readonly handle: number;
  readonly authHash: number;
  readonly key: Buffer;
  readonly symmetric: TPMT_SYM_DEF_PLUS;
  nonceCaller: Buffer;
  nonceTPM: Buffer;
  /** Handle of the entity that the session is bound to: its authValue is not part of the HMAC key. */
  readonly boundTo: number | undefined;

  private constructor(parts: Pick<ClientSession, 'handle' | 'authHash' | 'key' | 'symmetric' | 'nonceCaller' | 'nonceTPM' | 'boundTo'>) {
    this.handle = parts.handle;
    this.authHash = parts.authHash;
    this.key = parts.key;
    this.symmetric = parts.symmetric;
    this.nonceCaller = parts.nonceCaller;
    this.nonceTPM = parts.nonceTPM;
    this.boundTo = parts.boundTo;
  }

  static async start(execute: Execute, options: SessionOptions = {}): Promise<ClientSession> {
    const { type = TPM_SE.HMAC, authHash = TPM_ALG.SHA256, symmetric = noCipher, salt, bind } = options;
    const nonceCaller = randomBytes(digestSize(authHash));
    const seed = salt === undefined ? { secret: none, encrypted: none } : encapsulate(salt.publicArea, 'SECRET');
    const handles = { tpmKey: salt?.handle ?? TPM_RH.NULL, bind: bind?.handle ?? TPM_RH.NULL };
    const request = { ...handles, nonceCaller, encryptedSalt: seed.encrypted, sessionType: type, symmetric, authHash };
    const { sessionHandle: handle, nonceTPM } = await run(execute, StartAuthSession, request, []);
    const key = sessionKey(authHash, bind && trimAuth(bind.auth), seed.secret, nonceTPM, nonceCaller);
    return new ClientSession({ handle, authHash, key, symmetric, nonceCaller, nonceTPM: Buffer.from(nonceTPM), boundTo: bind?.handle });
  }

  /** Flushes it. A swtpm has room for three sessions. */
  async end(execute: Execute): Promise<void> {
    await run(execute, FlushContext, { flushHandle: this.handle });
  }
}

/** How one session is used in one command. */
export interface SessionUse {
  /** Undefined for a password authorization. */
  readonly session?: ClientSession;
  /** authValue of the entity that it authorizes; the password. */
  readonly auth?: Buffer | string;
  /** authValue of the entity after the command, if that is another. */
  readonly newAuth?: Buffer | string;
  /** TPMA_SESSION; `continueSession` unless given. */
  readonly attributes?: number;
  /** A policy session without PolicyAuthValue: no HMAC over the authValue (and none at all without a session key). */
  readonly withoutAuth?: boolean;
  /** A policy session after PolicyPassword: the password in clear. */
  readonly asPassword?: boolean;
  /** Breaks the HMAC. */
  readonly corrupt?: boolean;
}

/** What came back: `out` only with success. */
export interface SessionResponse<C> {
  readonly code: number;
  readonly out: Response<C> | undefined;
  /** Attributes of the sessions in the response. */
  readonly attributes: readonly number[];
}

/**
 * Executes a command with sessions, computes and checks all HMACs and encrypts parameters where the attributes say so.
 * `names` are the Names of objects and NV indices by handle; everything else is its handle.
 */
export async function execWithSessions<C extends AnyCommand>(
  execute: Execute,
  command: C,
  values: Request<C>,
  uses: readonly SessionUse[],
  names: ReadonlyMap<number, Buffer> = new Map(),
  locality = 0,
): Promise<SessionResponse<C>> {
  const handles = handlesOf(command, values);
  const parameters = Buffer.from(encodeParameters(command.inList, values));
  for (const { session } of uses) if (session !== undefined) session.nonceCaller = randomBytes(session.nonceTPM.length);
  const decrypt = uses.find((use) => has(use, TPMA_SESSION.decrypt))?.session;
  const encrypt = uses.find((use) => has(use, TPMA_SESSION.encrypt))?.session;
  cryptFor(uses, TPMA_SESSION.decrypt, command, parameters, 'encrypt');
  const nameList = handles.map((handle) => names.get(handle) ?? requireHandleName(handle));
  const areas = uses.map((use, i): TPMS_AUTH_COMMAND => {
    const { session } = use;
    if (session === undefined) return password(use.auth);
    const nonces = i === 0 && hasEntity(command, 0) ? extraNonces(session, decrypt, encrypt) : {};
    const pHash = cpHash(session.authHash, command.code, nameList, parameters);
    const hmac =
      use.asPassword === true
        ? Buffer.from(use.auth ?? none)
        : hmacOf(use, command, handles, i, pHash, session.nonceCaller, session.nonceTPM, nonces);
    if (use.corrupt === true) hmac[0] = (hmac[0] ?? 0) ^ 1;
    return { sessionHandle: session.handle, nonce: session.nonceCaller, sessionAttributes: attributesOf(use), hmac };
  });
  const {
    code,
    handle,
    parameters: answer,
    sessions,
  } = splitResponse(command, await execute(rawFrame(command.code, handles, parameters, areas), locality));
  if (code !== TPM_RC.SUCCESS) return { code, out: undefined, attributes: [] };
  uses.forEach((use, i) => {
    checkAnswer(use, command, handles, i, answer, sessions[i]);
  });
  const clear = Buffer.from(answer);
  cryptFor(uses, TPMA_SESSION.encrypt, command, clear, 'decrypt');
  return { code, out: decodeOut(command, handle, clear), attributes: sessions.map(({ sessionAttributes }) => sessionAttributes) };
}

/** As {@link execWithSessions}, but fails the test if the command does not succeed. */
export async function runWithSessions<C extends AnyCommand>(
  execute: Execute,
  command: C,
  values: Request<C>,
  uses: readonly SessionUse[],
  names?: ReadonlyMap<number, Buffer>,
): Promise<Response<C>> {
  const { code, out } = await execWithSessions(execute, command, values, uses, names);
  if (out === undefined) assert.fail(`${command.name}: ${describeResponseCode(code)}`);
  return out;
}

const attributesOf = (use: SessionUse): number => (use.session === undefined ? 0 : (use.attributes ?? TPMA_SESSION.continueSession));
const has = (use: SessionUse, mask: number): boolean => (attributesOf(use) & mask) !== 0;
const hasEntity = (command: AnyCommand, i: number): boolean => command.handleList[i]?.[1].role !== undefined;
const authOf = (use: SessionUse): Buffer => trimAuth(Buffer.from(use.auth ?? none));

function requireHandleName(handle: number): Buffer {
  const named = [HANDLE_RANGE.TRANSIENT, HANDLE_RANGE.PERSISTENT, HANDLE_RANGE.NV_INDEX].some((range) => inRange(handle, range));
  if (named) throw new Error(`the Name of ${handle.toString(16)} is needed for the cpHash`);
  return nameOfHandle(handle);
}

interface ExtraNonces {
  readonly nonceDecrypt?: Buffer;
  readonly nonceEncrypt?: Buffer;
}

function extraNonces(first: ClientSession, decrypt: ClientSession | undefined, encrypt: ClientSession | undefined): ExtraNonces {
  return {
    ...(decrypt !== undefined && decrypt !== first && { nonceDecrypt: decrypt.nonceTPM }),
    ...(encrypt !== undefined && encrypt !== first && encrypt !== decrypt && { nonceEncrypt: encrypt.nonceTPM }),
  };
}

function hmacOf(
  use: SessionUse,
  command: AnyCommand,
  handles: readonly number[],
  position: number,
  pHash: Buffer,
  nonceNewer: Buffer,
  nonceOlder: Buffer,
  nonces: ExtraNonces = {},
): Buffer {
  const { session } = use;
  assert.ok(session);
  const includeAuth = hasEntity(command, position) && use.withoutAuth !== true && handles[position] !== session.boundTo;
  const key = includeAuth ? Buffer.concat([session.key, authOf(use)]) : session.key;
  const isPolicy = session.handle >>> 24 === 0x03;
  if (key.length === 0 && (isPolicy || !includeAuth)) return Buffer.alloc(0);
  return sessionHmac({ alg: session.authHash, key, pHash, nonceNewer, nonceOlder, ...nonces, sessionAttributes: attributesOf(use) });
}

/** Encrypts or decrypts the first parameter, in place, if a session has the attribute. */
function cryptFor(uses: readonly SessionUse[], mask: number, command: AnyCommand, area: Buffer, direction: 'encrypt' | 'decrypt'): void {
  const position = uses.findIndex((use) => has(use, mask));
  const use = uses[position];
  if (use?.session === undefined) return;
  const { authHash: alg, symmetric, nonceCaller, nonceTPM } = use.session;
  const key = hasEntity(command, position) ? Buffer.concat([use.session.key, authOf(use)]) : use.session.key;
  const [nonceNewer, nonceOlder] = direction === 'encrypt' ? [nonceCaller, nonceTPM] : [nonceTPM, nonceCaller];
  cryptParameter(direction, { alg, symmetric, key, nonceNewer, nonceOlder }, area);
}

function checkAnswer(
  use: SessionUse,
  command: AnyCommand,
  handles: readonly number[],
  position: number,
  parameters: Buffer,
  answer: { readonly nonce: Buffer; readonly sessionAttributes: number; readonly hmac: Buffer } | undefined,
): void {
  assert.ok(answer, 'a response has as many sessions as the command');
  const { session } = use;
  if (session === undefined) {
    assert.deepEqual([answer.nonce.length, answer.hmac.length], [0, 0]);
    return;
  }
  session.nonceTPM = Buffer.from(answer.nonce);
  if (use.asPassword === true) {
    assert.equal(answer.hmac.length, 0);
    return;
  }
  const pHash = rpHash(session.authHash, TPM_RC.SUCCESS, command.code, parameters);
  const answered: SessionUse = { ...use, ...(use.newAuth !== undefined && { auth: use.newAuth }), attributes: answer.sessionAttributes };
  const expected = hmacOf(answered, command, handles, position, pHash, session.nonceTPM, session.nonceCaller);
  if (expected.length > 0 && answer.hmac.length === 0)
    assert.equal(session.key.length + authOf(answered).length, 0, 'an HMAC is left out only where its key is empty');
  else assert.equal(answer.hmac.toString('hex'), expected.toString('hex'), `response HMAC of session ${(position + 1).toString()}`);
}

/** A password as a use, for commands where another session is beside it. */
export const passwordUse = (auth: Buffer | string = none): SessionUse => ({ auth });
