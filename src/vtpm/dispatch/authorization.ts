// TPM 2.0 Library Part 1, 19: authorizations and session processing of a command.
import { timingSafeEqual } from 'node:crypto';
import type { Command } from '../../tpm/command.js';
import { MAX_SESSION_NUM, TPM_ALG, TPM_RH, TPM_RS, TPMA_SESSION } from '../../tpm/constants/index.js';
import { atSession, TPM_RC, TpmError } from '../../tpm/response-code.js';
import { cpHash, cryptParameter, sessionHmac, trimAuth } from '../../tpm/session-crypto.js';
import { TPMS_AUTH_COMMAND } from '../../tpm/structures/index.js';
import { Reader } from '../../tpm/wire.js';
import {
  bindValue,
  entityAuth,
  type Entity,
  isAuthValueAvailable,
  isDaExempt,
  isPolicyAvailable,
  needsPolicySession,
  notePinUse,
} from './entity.js';
import { isPin } from '../state/nv.js';
import type { Session } from '../state/session.js';
import type { Tpm } from '../tpm.js';
import type { AuthorizedCommand, SessionUse } from './authorized-command.js';
import { checkPolicy } from './policy-check.js';

const has = (use: { readonly attributes: number }, mask: number): boolean => (use.attributes & mask) !== 0;
const nonPasswordAttributes =
  TPMA_SESSION.encrypt | TPMA_SESSION.decrypt | TPMA_SESSION.audit | TPMA_SESSION.auditExclusive | TPMA_SESSION.auditReset;

/** Reads the sessions of the authorization area. Errors carry the session's number. */
export function parseSessions(tpm: Tpm, command: Command, area: Buffer): SessionUse[] {
  const reader = new Reader(area);
  const uses: SessionUse[] = [];
  while (reader.remaining > 0) {
    const position = uses.length + 1;
    if (position > MAX_SESSION_NUM) throw new TpmError(atSession(TPM_RC.SIZE, position));
    try {
      uses.push(parseSession(tpm, command, reader, uses));
    } catch (error) {
      if (!(error instanceof TpmError)) throw error;
      const { code } = error;
      throw new TpmError(code === TPM_RC.REFERENCE_S0 ? code + position - 1 : atSession(code, position));
    }
  }
  return uses;
}

function parseSession(tpm: Tpm, command: Command, reader: Reader, earlier: readonly SessionUse[]): SessionUse {
  const { sessionHandle: handle, nonce, sessionAttributes: attributes, hmac } = TPMS_AUTH_COMMAND.decode(reader);
  const use: SessionUse = { session: undefined, handle, nonceCaller: nonce, attributes, auth: hmac, entity: undefined, includeAuth: true };
  if (handle === TPM_RS.PW) {
    if (has(use, nonPasswordAttributes)) throw new TpmError(TPM_RC.ATTRIBUTES);
    if (nonce.length > 0) throw new TpmError(TPM_RC.NONCE);
    return use;
  }
  const session = tpm.sessions.find(handle);
  if (session === undefined) throw new TpmError(tpm.sessions.isOtherType(handle) ? TPM_RC.HANDLE : TPM_RC.REFERENCE_S0);
  if (earlier.some((other) => other.handle === handle)) throw new TpmError(TPM_RC.HANDLE);
  checkCipherUse(session, has(use, TPMA_SESSION.decrypt), command.decryptable, earlier, TPMA_SESSION.decrypt);
  checkCipherUse(session, has(use, TPMA_SESSION.encrypt), command.encryptable, earlier, TPMA_SESSION.encrypt);
  if (has(use, TPMA_SESSION.audit)) checkAuditUse(tpm, session, use, earlier);
  return { ...use, session };
}

function checkCipherUse(session: Session, wanted: boolean, possible: boolean, earlier: readonly SessionUse[], mask: number): void {
  if (!wanted) return;
  if (!possible || earlier.some((other) => has(other, mask))) throw new TpmError(TPM_RC.ATTRIBUTES);
  if (session.symmetric.algorithm === TPM_ALG.NULL) throw new TpmError(TPM_RC.SYMMETRIC);
}

function checkAuditUse(tpm: Tpm, session: Session, use: SessionUse, earlier: readonly SessionUse[]): void {
  if (earlier.some((other) => has(other, TPMA_SESSION.audit)) || session.isPolicy) throw new TpmError(TPM_RC.ATTRIBUTES);
  const continues = !has(use, TPMA_SESSION.auditReset) && session.auditDigest !== undefined;
  if (continues && has(use, TPMA_SESSION.auditExclusive) && tpm.sessions.exclusiveAudit !== session.handle)
    throw new TpmError(TPM_RC.EXCLUSIVE);
}

/** Gives each session the handle that it authorizes. `TPM_RC_AUTH_MISSING` if there are fewer sessions than needed. */
export function associate(command: Command, entities: readonly Entity[], uses: readonly SessionUse[]): void {
  command.handleList.forEach(([, { role }], i) => {
    if (role === undefined) return;
    const use = uses[i];
    if (use === undefined) throw new TpmError(TPM_RC.AUTH_MISSING);
    use.entity = entities[i];
  });
}

/** Checks every session of the command, in order. Errors carry the session's number. */
export function authorize(tpm: Tpm, call: AuthorizedCommand): void {
  call.sessions.forEach((use, i) => {
    try {
      checkSession(tpm, call, use, i);
    } catch (error) {
      throw error instanceof TpmError ? new TpmError(atSession(error.code, i + 1)) : error;
    }
  });
}

function checkSession(tpm: Tpm, call: AuthorizedCommand, use: SessionUse, position: number): void {
  const { session } = use;
  if (session === undefined) {
    if (use.entity === undefined) throw new TpmError(TPM_RC.HANDLE);
  } else {
    if (session.isTrial) throw new TpmError(TPM_RC.ATTRIBUTES);
    if (session.daBound) checkNotLockedOut(tpm, session.lockoutBound);
  }
  if (use.entity !== undefined) {
    const { presence } = tpm;
    if (use.entity.handle === TPM_RH.PLATFORM && !presence.asserted && presence.requires(call.command.code)) throw new TpmError(TPM_RC.PP);
    checkEntityAuthorization(tpm, call, use, use.entity, position);
    return;
  }
  if (!has(use, TPMA_SESSION.audit | TPMA_SESSION.encrypt | TPMA_SESSION.decrypt)) throw new TpmError(TPM_RC.ATTRIBUTES);
  use.includeAuth = false;
  if (!isHmacValid(tpm, call, use, position)) throw authFailure(tpm, use);
}

function checkEntityAuthorization(tpm: Tpm, call: AuthorizedCommand, use: SessionUse, entity: Entity, position: number): void {
  const { session } = use;
  const role = call.command.handleList[position]?.[1].role ?? 'USER';
  const isPolicy = session?.isPolicy === true;
  if (isPolicy) use.includeAuth = session.policy.authValueNeeded || session.policy.passwordNeeded;
  else if (session?.boundEntity !== undefined) use.includeAuth = !session.boundEntity.equals(bindValue(tpm, entity));
  if (use.includeAuth && !isDaExempt(entity)) checkNotLockedOut(tpm, entity.handle === TPM_RH.LOCKOUT);
  if (use.includeAuth && entity.kind === 'nv' && isPin(entity.index)) tpm.failedAuthorizations.requireCountable(tpm.durable);
  if (isPolicy) {
    if (!isPolicyAvailable(tpm, entity, call.command.code, role)) throw new TpmError(TPM_RC.AUTH_UNAVAILABLE);
    checkPolicy(tpm, call, session, entity, role);
  } else {
    if (needsPolicySession(tpm, entity, role)) throw new TpmError(TPM_RC.AUTH_TYPE);
    if (!isAuthValueAvailable(entity, call.command.code, role)) throw new TpmError(TPM_RC.AUTH_UNAVAILABLE);
  }
  const byPassword = session === undefined || session.policy.passwordNeeded;
  const valid = byPassword ? sameSecret(trimAuth(use.auth), entityAuth(tpm, entity)) : isHmacValid(tpm, call, use, position);
  if (use.includeAuth) notePinUse(tpm, entity, valid);
  if (!valid) throw authFailure(tpm, use);
}

/** Compares without telling by time where the difference is. */
function sameSecret(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** `sessionKey || authValue`, the latter only if it is included (Part 1, 19.6.5). */
export function hmacKey(tpm: Tpm, use: SessionUse, session: Session): Buffer {
  if (!use.includeAuth || use.entity === undefined) return Buffer.from(session.sessionKey);
  return Buffer.concat([session.sessionKey, entityAuth(tpm, use.entity)]);
}

function isHmacValid(tpm: Tpm, call: AuthorizedCommand, use: SessionUse, position: number): boolean {
  const { session } = use;
  if (session === undefined) return false;
  const key = hmacKey(tpm, use, session);
  if (key.length === 0 && use.auth.length === 0) return true;
  const first = position === 0 && use.entity !== undefined;
  const decrypt = first && call.decrypt !== use ? call.decrypt : undefined;
  const encrypt = first && call.encrypt !== use && call.encrypt !== call.decrypt ? call.encrypt : undefined;
  const expected = sessionHmac({
    alg: session.authHash,
    key,
    pHash: call.cpHash(session.authHash),
    nonceNewer: use.nonceCaller,
    nonceOlder: session.nonceTPM,
    ...(decrypt?.session && { nonceDecrypt: decrypt.session.nonceTPM }),
    ...(encrypt?.session && { nonceEncrypt: encrypt.session.nonceTPM }),
    sessionAttributes: use.attributes,
  });
  key.fill(0);
  return sameSecret(use.auth, expected);
}

function checkNotLockedOut(tpm: Tpm, lockoutAuth: boolean): void {
  const { dictionaryAttack } = tpm;
  tpm.failedAuthorizations.requireCountable(tpm.durable);
  if (lockoutAuth ? dictionaryAttack.lockoutAuthBlocked : dictionaryAttack.inLockout) throw new TpmError(TPM_RC.LOCKOUT);
  if (!lockoutAuth) tpm.power.useDictionaryAttack();
}

/** Counts a failure where it counts, and gives the code: `TPM_RC_AUTH_FAIL` if it did, `TPM_RC_BAD_AUTH` if not (Part 1, 19.8.4). */
function authFailure(tpm: Tpm, use: SessionUse): TpmError {
  const { session, entity } = use;
  const exempt = entity === undefined || isDaExempt(entity) || !use.includeAuth;
  if (session === undefined ? exempt : !session.daBound && exempt) return new TpmError(TPM_RC.BAD_AUTH);
  const lockout = session?.lockoutBound === true || entity?.handle === TPM_RH.LOCKOUT;
  tpm.failedAuthorizations.fail({ kind: lockout ? 'lockout' : 'protected', nvIndex: 0 }, tpm);
  return new TpmError(TPM_RC.AUTH_FAIL);
}

/**
 * The parameter area in clear: as it came, or a decrypted copy if a session asks for it (Part 1, 21). Errors carry the number
 * of that session.
 */
export function decryptParameters(tpm: Tpm, call: AuthorizedCommand): Buffer {
  const use = call.decrypt;
  if (use?.session === undefined) return call.parameters;
  const { session, nonceCaller } = use;
  const clear = Buffer.from(call.parameters);
  const key = cipherKey(tpm, use, session);
  try {
    cryptParameter(
      'decrypt',
      { alg: session.authHash, symmetric: parameterCipher(session), key, nonceNewer: nonceCaller, nonceOlder: session.nonceTPM },
      clear,
    );
  } catch (error) {
    throw error instanceof TpmError ? new TpmError(atSession(error.code, call.sessions.indexOf(use) + 1)) : error;
  } finally {
    key.fill(0);
  }
  return clear;
}

/** `sessionKey || authValue` of whatever the session authorizes, bound or not (Part 1, 21.2). */
export function cipherKey(tpm: Tpm, use: SessionUse, session: Session): Buffer {
  return Buffer.concat([session.sessionKey, use.entity === undefined ? Buffer.alloc(0) : entityAuth(tpm, use.entity)]);
}

/** The session's symmetric algorithm as parameter encryption wants it. */
export function parameterCipher(session: Session): { algorithm: number; keyBits: number } {
  const { algorithm, keyBits } = session.symmetric;
  return { algorithm, keyBits: keyBits ?? 0 };
}

/** What a command without an authorization area has. `TPM_RC_AUTH_MISSING` if it needs one. */
export function requireNoAuthorization(command: Command): void {
  if (command.handleList.some(([, { role }]) => role !== undefined)) throw new TpmError(TPM_RC.AUTH_MISSING);
}

/** Puts a command's sessions, handles and parameters together for the checks. */
export function assemble(
  parts: Pick<AuthorizedCommand, 'command' | 'entities' | 'names' | 'locality' | 'sessions' | 'parameters'>,
): AuthorizedCommand {
  const digests = new Map<number, Buffer>();
  const find = (mask: number): SessionUse | undefined => parts.sessions.find((use) => has(use, mask));
  return {
    ...parts,
    decrypt: find(TPMA_SESSION.decrypt),
    encrypt: find(TPMA_SESSION.encrypt),
    audit: find(TPMA_SESSION.audit),
    cpHash: (alg) => {
      let digest = digests.get(alg);
      if (digest === undefined) digests.set(alg, (digest = cpHash(alg, parts.command.code, parts.names, parts.parameters)));
      return digest;
    },
  };
}
