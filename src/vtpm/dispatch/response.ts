// TPM 2.0 Library Part 1, 18.11 and 19.6: the response's sessions.
import type { Command } from '../../tpm/command.js';
import { TPMA_SESSION } from '../../tpm/constants/index.js';
import { encodeResponse } from '../../tpm/frame.js';
import { digestSize, hash } from '../../tpm/hash.js';
import { TPM_RC } from '../../tpm/response-code.js';
import { cryptParameter, rpHash, sessionHmac } from '../../tpm/session-crypto.js';
import type { TPMS_AUTH_RESPONSE } from '../../tpm/structures/index.js';
import { resetPolicy } from '../state/sessions.js';
import type { Session } from '../state/session.js';
import type { Tpm } from '../tpm.js';
import { cipherKey, hmacKey, parameterCipher } from './authorization.js';
import type { AuthorizedCommand, SessionUse } from './authorized-command.js';

/** The response of a command that succeeded. Nonces roll, audit digests are extended, ended sessions flushed. */
export function successResponse(tpm: Tpm, call: AuthorizedCommand, handle: number | undefined, parameters: Buffer): Buffer {
  for (const { session } of call.sessions) if (session !== undefined) session.nonceTPM = tpm.random.randomBytes(session.nonceTPM.length);
  if (call.sessions.length > 0) encryptFirst(tpm, call, parameters);
  const digests = new Map<number, Buffer>();
  const pHash = (alg: number): Buffer => {
    let digest = digests.get(alg);
    if (digest === undefined) digests.set(alg, (digest = rpHash(alg, TPM_RC.SUCCESS, call.command.code, parameters)));
    return digest;
  };
  updateAudit(tpm, call, pHash);
  if (tpm.commandAudit.isAudited(call.command.code)) tpm.commandAudit.note(call.cpHash, pHash);
  const authorizations = call.sessions.map((use) => sessionResponse(tpm, use, pHash));
  return encodeResponse(handle, parameters, authorizations);
}

function encryptFirst(tpm: Tpm, call: AuthorizedCommand, parameters: Buffer): void {
  const use = call.encrypt;
  if (use?.session === undefined) return;
  const { session, nonceCaller } = use;
  const key = cipherKey(tpm, use, session);
  const input = { alg: session.authHash, symmetric: parameterCipher(session), key, nonceNewer: session.nonceTPM, nonceOlder: nonceCaller };
  cryptParameter('encrypt', input, parameters);
  key.fill(0);
}

/** Audit of the session marked for it; exclusivity ends with any command that could have been audited and was not (Part 1, 34). */
function updateAudit(tpm: Tpm, call: AuthorizedCommand, pHash: (alg: number) => Buffer): void {
  const { audit } = call;
  if (audit?.session === undefined) {
    if (allowsSessions(call.command)) tpm.sessions.exclusiveAudit = undefined;
    return;
  }
  const { session } = audit;
  if (session.auditDigest === undefined || (audit.attributes & TPMA_SESSION.auditReset) !== 0) {
    session.auditDigest = Buffer.alloc(digestSize(session.authHash));
    session.boundEntity = undefined;
    tpm.sessions.exclusiveAudit = session.handle;
  } else if (tpm.sessions.exclusiveAudit !== session.handle) {
    tpm.sessions.exclusiveAudit = undefined;
  }
  const exclusive = tpm.sessions.exclusiveAudit === session.handle;
  audit.attributes = exclusive ? audit.attributes | TPMA_SESSION.auditExclusive : audit.attributes & ~TPMA_SESSION.auditExclusive;
  session.auditDigest = hash(session.authHash, session.auditDigest, call.cpHash(session.authHash), pHash(session.authHash));
}

function allowsSessions(command: Command): boolean {
  return !command.noSessions;
}

function sessionResponse(tpm: Tpm, use: SessionUse, pHash: (alg: number) => Buffer): TPMS_AUTH_RESPONSE {
  const { session } = use;
  if (session === undefined) {
    return { nonce: Buffer.alloc(0), sessionAttributes: use.attributes | TPMA_SESSION.continueSession, hmac: Buffer.alloc(0) };
  }
  const hmac = session.policy.passwordNeeded ? Buffer.alloc(0) : responseHmac(tpm, use, session, pHash);
  const response = { nonce: session.nonceTPM, sessionAttributes: use.attributes, hmac };
  if ((use.attributes & TPMA_SESSION.continueSession) === 0) tpm.sessions.flush(session.handle);
  else if (session.isPolicy) restartPolicy(tpm, session);
  return response;
}

/** A policy session starts over when its nonce rolls (Part 1, 19.7.2). */
function restartPolicy(tpm: Tpm, session: Session): void {
  resetPolicy(session);
  session.startTime = tpm.clock.time;
  session.epoch = tpm.clock.epoch;
}

function responseHmac(tpm: Tpm, use: SessionUse, session: Session, pHash: (alg: number) => Buffer): Buffer {
  const key = hmacKey(tpm, use, session);
  if (key.length === 0 && use.auth.length === 0) return Buffer.alloc(0);
  const { authHash: alg, nonceTPM } = session;
  const hmac = sessionHmac({
    alg,
    key,
    pHash: pHash(alg),
    nonceNewer: nonceTPM,
    nonceOlder: use.nonceCaller,
    sessionAttributes: use.attributes,
  });
  key.fill(0);
  return hmac;
}
