// TPM 2.0 Library Part 3, 23.2.1 to 23.2.5: what PolicySigned, PolicySecret and PolicyTicket have in common.
import { timingSafeEqual } from 'node:crypto';
import { PolicySecret, PolicySigned } from '../../tpm/commands/index.js';
import { TPM_RH, TPM_ST } from '../../tpm/constants/index.js';
import { TPM_RC } from '../../tpm/response-code.js';
import type { TPMT_TK_AUTH } from '../../tpm/structures/index.js';
import type { Call } from '../dispatch/call.js';
import type { Session } from '../state/session.js';
import { authTicket } from '../signing/tickets.js';
import type { Tpm } from '../tpm.js';
import { extendPolicy } from './policy-update.js';

const MS_PER_SECOND = 1000n;
const INT32_MAX = 0x7fffffff;
/** Bit of a ticket's timeout which says that the ticket expires at a TPM reset. */
const EXPIRES_ON_RESET = 1n << 63n;
/** Bytes of a timeout. */
const TIMEOUT_SIZE = 8;

/**
 * When an authorization ends: Time in milliseconds, 0n for never. `expiration` is in seconds; negative asks for a ticket besides. It counts
 * from the start of the session if the authorization is bound to the session by its nonce, from the power-on otherwise.
 */
export function authorizationTimeout(tpm: Tpm, session: Session, expiration: number, nonceTPM: Buffer): bigint {
  if (expiration === 0) return 0n;
  const duration = BigInt(Math.min(Math.abs(expiration), INT32_MAX)) * MS_PER_SECOND;
  return duration + (nonceTPM.length === 0 ? tpm.clock.time % MS_PER_SECOND : session.startTime);
}

/** Checks that the authorization is for this session, if it names one. `TPM_RC_NONCE`. */
export function checkNonce(session: Session, nonceTPM: Buffer, call: Call<never, 'nonceTPM'>): void {
  if (nonceTPM.length > 0 && !isSame(nonceTPM, session.nonceTPM)) throw call.error(TPM_RC.NONCE, 'nonceTPM');
}

/**
 * Checks that the authorization is for now and for what the session is bound to. `TPM_RC_EXPIRED`, `TPM_RC_SIZE` at their parameters;
 * `TPM_RC_CPHASH`.
 * @param where the parameter that `TPM_RC_EXPIRED` is about
 */
export function checkAuthorization<P extends 'expiration' | 'timeout'>(
  tpm: Tpm,
  session: Session,
  { timeout, cpHashA }: Pick<GrantedAuthorization, 'timeout' | 'cpHashA'>,
  call: Call<never, P | 'cpHashA'>,
  where: P,
): void {
  if (timeout !== 0n && (timeout < tpm.clock.time || session.epoch !== tpm.clock.epoch)) throw call.error(TPM_RC.EXPIRED, where);
  if (cpHashA.length === 0) return;
  const { digest, bound } = session.policy;
  if (cpHashA.length !== digest.length) throw call.error(TPM_RC.SIZE, 'cpHashA');
  if (bound !== undefined && !isSame(bound.digest, cpHashA)) throw call.error(TPM_RC.CPHASH);
}

/** What the authorization of an entity is about. */
export interface GrantedAuthorization {
  readonly tag: TPMT_TK_AUTH['tag'];
  readonly entityName: Buffer;
  readonly policyRef: Buffer;
  readonly cpHashA: Buffer;
  readonly timeout: bigint;
}

/** Records a checked authorization in the session: digest, cpHash, and the earliest timeout. */
export function recordAuthorization(session: Session, { tag, entityName, policyRef, cpHashA, timeout }: GrantedAuthorization): void {
  const { policy } = session;
  if (tag === TPM_ST.AUTH_SIGNED) extendPolicy(session, PolicySigned, { authObject: entityName, policyRef });
  else extendPolicy(session, PolicySecret, { authHandle: entityName, policyRef });
  if (cpHashA.length > 0) policy.bound = { kind: 'cpHash', digest: Buffer.from(cpHashA) };
  if (timeout !== 0n && (policy.timeout === 0n || policy.timeout > timeout)) policy.timeout = timeout;
}

/** What PolicySigned and PolicySecret return: a ticket and when it ends, which the caller gives back to PolicyTicket as it is. */
export interface IssuedTicket {
  readonly timeout: Buffer;
  readonly policyTicket: TPMT_TK_AUTH;
}

/** A ticket for an authorization under a hierarchy. */
export function issueTicket(tpm: Tpm, hierarchy: number, expiresOnReset: boolean, granted: GrantedAuthorization): IssuedTicket {
  const { tag, entityName, policyRef, cpHashA } = granted;
  const timeout = granted.timeout & ~EXPIRES_ON_RESET;
  const bytes = Buffer.alloc(TIMEOUT_SIZE);
  bytes.writeBigUInt64BE(expiresOnReset ? timeout | EXPIRES_ON_RESET : timeout);
  return { timeout: bytes, policyTicket: authTicket(tpm, tag, hierarchy, timeout, expiresOnReset, cpHashA, policyRef, entityName) };
}

/** The answer where no ticket is asked for or may be given. */
export function noTicket(tag: TPMT_TK_AUTH['tag']): IssuedTicket {
  return { timeout: Buffer.alloc(0), policyTicket: { tag, hierarchy: TPM_RH.NULL, digest: Buffer.alloc(0) } };
}

/** The `timeout` of a ticket; undefined if it has not the size of one that {@link issueTicket} made. */
export function parseTimeout(bytes: Buffer): { readonly timeout: bigint; readonly expiresOnReset: boolean } | undefined {
  if (bytes.length !== TIMEOUT_SIZE) return undefined;
  const value = bytes.readBigUInt64BE();
  return { timeout: value & ~EXPIRES_ON_RESET, expiresOnReset: (value & EXPIRES_ON_RESET) !== 0n };
}

function isSame(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
