// TPM 2.0 Library Part 1, 30.2: how a session is written into a saved context. Encryption is the writer's business.
import { TPM_ALG } from '../../../tpm/constants/index.js';
import { type Infer, struct, tpm2b, uint16, uint32, uint64, uint8 } from '../../../tpm/schema.js';
import { TPM2B_DIGEST, TPM2B_NONCE, TPMT_SYM_DEF_PLUS } from '../../../tpm/structures/index.js';
import type { PolicyState, Session } from '../session.js';

/** A session as plain data. What may be undefined is so if its bit in `flags` is clear. */
export const storedSession = struct({
  version: uint8,
  handle: uint32,
  flags: uint16,
  authHash: uint16,
  symmetric: TPMT_SYM_DEF_PLUS,
  sessionKey: TPM2B_DIGEST,
  nonceTPM: TPM2B_NONCE,
  boundEntity: tpm2b(68),
  auditDigest: TPM2B_DIGEST,
  startTime: uint64,
  epoch: uint32,
  policyDigest: TPM2B_DIGEST,
  commandCode: uint32,
  boundKind: uint8,
  boundDigest: TPM2B_DIGEST,
  pcrCounter: uint32,
  timeout: uint64,
  locality: uint8,
});
export type StoredSession = Infer<typeof storedSession>;

const FLAG = {
  policy: 0x001,
  trial: 0x002,
  bound: 0x004,
  daBound: 0x008,
  lockoutBound: 0x010,
  audit: 0x020,
  pcrCounter: 0x040,
  authValueNeeded: 0x080,
  passwordNeeded: 0x100,
  physicalPresence: 0x200,
  checkWritten: 0x400,
  written: 0x800,
} as const;
/** What the digest of {@link PolicyState.bound} is of; its position here is stored, 0 means that there is none. */
const boundKinds = [undefined, 'cpHash', 'nameHash', 'templateHash'] as const;
const nothing = Buffer.alloc(0);

function flagsOf(session: Session): number {
  const { policy } = session;
  const flag = (bit: number, on: boolean): number => (on ? bit : 0);
  return (
    flag(FLAG.policy, session.isPolicy) |
    flag(FLAG.trial, session.isTrial) |
    flag(FLAG.bound, session.boundEntity !== undefined) |
    flag(FLAG.daBound, session.daBound) |
    flag(FLAG.lockoutBound, session.lockoutBound) |
    flag(FLAG.audit, session.auditDigest !== undefined) |
    flag(FLAG.pcrCounter, policy.pcrCounter !== undefined) |
    flag(FLAG.authValueNeeded, policy.authValueNeeded) |
    flag(FLAG.passwordNeeded, policy.passwordNeeded) |
    flag(FLAG.physicalPresence, policy.physicalPresence) |
    flag(FLAG.checkWritten, policy.nvWritten !== undefined) |
    flag(FLAG.written, policy.nvWritten === true)
  );
}

/** A session as plain data. */
export function toStoredSession(session: Session): StoredSession {
  const { handle, authHash, symmetric, sessionKey, nonceTPM, boundEntity, auditDigest, startTime, epoch, policy } = session;
  return {
    version: 1,
    handle,
    flags: flagsOf(session),
    authHash,
    symmetric: symmetric.algorithm === TPM_ALG.NULL ? { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } : symmetric,
    sessionKey,
    nonceTPM,
    boundEntity: boundEntity ?? nothing,
    auditDigest: auditDigest ?? nothing,
    startTime,
    epoch,
    policyDigest: policy.digest,
    commandCode: policy.commandCode,
    boundKind: boundKinds.indexOf(policy.bound?.kind),
    boundDigest: policy.bound?.digest ?? nothing,
    pcrCounter: policy.pcrCounter ?? 0,
    timeout: policy.timeout,
    locality: policy.locality,
  };
}

function policyOf(stored: StoredSession, has: (bit: number) => boolean): PolicyState {
  const kind = boundKinds[stored.boundKind];
  return {
    digest: Buffer.from(stored.policyDigest),
    commandCode: stored.commandCode,
    bound: kind && { kind, digest: Buffer.from(stored.boundDigest) },
    pcrCounter: has(FLAG.pcrCounter) ? stored.pcrCounter : undefined,
    timeout: stored.timeout,
    locality: stored.locality,
    authValueNeeded: has(FLAG.authValueNeeded),
    passwordNeeded: has(FLAG.passwordNeeded),
    physicalPresence: has(FLAG.physicalPresence),
    nvWritten: has(FLAG.checkWritten) ? has(FLAG.written) : undefined,
  };
}

/** The session that {@link toStoredSession} was given; all bytes are copied. */
export function fromStoredSession(stored: StoredSession): Session {
  const { handle, flags, authHash, symmetric, startTime, epoch } = stored;
  const has = (bit: number): boolean => (flags & bit) !== 0;
  return {
    handle,
    isPolicy: has(FLAG.policy),
    isTrial: has(FLAG.trial),
    authHash,
    symmetric,
    sessionKey: Buffer.from(stored.sessionKey),
    nonceTPM: Buffer.from(stored.nonceTPM),
    boundEntity: has(FLAG.bound) ? Buffer.from(stored.boundEntity) : undefined,
    daBound: has(FLAG.daBound),
    lockoutBound: has(FLAG.lockoutBound),
    auditDigest: has(FLAG.audit) ? Buffer.from(stored.auditDigest) : undefined,
    startTime,
    epoch,
    policy: policyOf(stored, has),
  };
}
