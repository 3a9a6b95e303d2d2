// TPM 2.0 Library Part 2, 10.7: tickets: evidence, for the TPM itself, that it did something before. They are HMACs (SHA-256) under
// the proof of a hierarchy, so a ticket is void when the hierarchy's proof changes.
import { timingSafeEqual } from 'node:crypto';
import { TPM_ALG, TPM_RH, TPM_ST } from '../../tpm/constants/index.js';
import { hmac } from '../../tpm/hash.js';
import { encode, struct, tpm2b, uint16, uint32, uint64, uint8 } from '../../tpm/schema.js';
import {
  TPM2B_DIGEST,
  TPM2B_NAME,
  TPM2B_NONCE,
  type TPMT_TK_AUTH,
  type TPMT_TK_CREATION,
  type TPMT_TK_HASHCHECK,
  type TPMT_TK_VERIFIED,
} from '../../tpm/structures/index.js';
import type { Tpm } from '../tpm.js';

/** A hierarchy as the structures of Part 2 name it: `TPMI_RH_HIERARCHY+`. */
type TicketHierarchy = number;

// Every field is preceded by its size: no bytes can move from one field to the next.
const hashCheckContent = struct({ tag: uint16, digest: TPM2B_DIGEST });
const verifiedContent = struct({ tag: uint16, digest: TPM2B_DIGEST, keyName: TPM2B_NAME });
const creationContent = struct({ tag: uint16, name: TPM2B_NAME, creationHash: TPM2B_DIGEST });
const authContent = struct({
  tag: uint16,
  cpHashA: TPM2B_DIGEST,
  policyRef: TPM2B_NONCE,
  entityName: TPM2B_NAME,
  timeout: uint64,
  expiresOnReset: uint8,
  validity: tpm2b(8),
});
const authValidity = struct({ epoch: uint32, totalResetCount: uint32 });

const noDigest = (): Buffer => Buffer.alloc(0);

function proofHmac(tpm: Tpm, hierarchy: TicketHierarchy, content: Buffer): Buffer {
  return hmac(TPM_ALG.SHA256, tpm.hierarchies.get(hierarchy).proof, content);
}

/**
 * `TPMT_TK_HASHCHECK` (10.7.6): what has this digest was hashed by the TPM and does not begin with `TPM_GENERATED_VALUE`. For the NULL
 * hierarchy, and where the data is not to be signed by a restricted key, it is the NULL ticket, which is never valid.
 */
export function hashCheckTicket(tpm: Tpm, hierarchy: TicketHierarchy, digest: Buffer): TPMT_TK_HASHCHECK {
  const tag = TPM_ST.HASHCHECK;
  if (hierarchy === TPM_RH.NULL) return { tag, hierarchy, digest: noDigest() };
  return { tag, hierarchy, digest: proofHmac(tpm, hierarchy, encode(hashCheckContent, { tag, digest })) };
}

/**
 * `TPMT_TK_VERIFIED` (10.7.4): the TPM has verified a signature over `digest` by the key called `keyName`. For the NULL hierarchy, or a
 * key without a Name, it is the NULL ticket, which is never valid.
 */
export function verifiedTicket(tpm: Tpm, hierarchy: TicketHierarchy, digest: Buffer, keyName: Buffer): TPMT_TK_VERIFIED {
  const tag = TPM_ST.VERIFIED;
  if (hierarchy === TPM_RH.NULL || keyName.length === 0) return { tag, hierarchy: TPM_RH.NULL, digest: noDigest() };
  return { tag, hierarchy, digest: proofHmac(tpm, hierarchy, encode(verifiedContent, { tag, digest, keyName })) };
}

/** `TPMT_TK_CREATION` (10.7.3): the TPM has created the object called `name` with creation data of this hash. */
export function creationTicket(tpm: Tpm, hierarchy: TicketHierarchy, name: Buffer, creationHash: Buffer): TPMT_TK_CREATION {
  const tag = TPM_ST.CREATION;
  return { tag, hierarchy, digest: proofHmac(tpm, hierarchy, encode(creationContent, { tag, name, creationHash })) };
}

/**
 * `TPMT_TK_AUTH` (10.7.5): an authorization by the entity called `entityName`, good until `timeout` (Time in milliseconds; 0n: for ever),
 * and if `expiresOnReset` not beyond the next TPM reset. A ticket with a timeout is bound to the epoch of Time.
 */
export function authTicket(
  tpm: Tpm,
  tag: TPMT_TK_AUTH['tag'],
  hierarchy: TicketHierarchy,
  timeout: bigint,
  expiresOnReset: boolean,
  cpHashA: Buffer,
  policyRef: Buffer,
  entityName: Buffer,
): TPMT_TK_AUTH {
  const { epoch, totalResetCount } = tpm.clock;
  const validity = timeout === 0n ? noDigest() : encode(authValidity, { epoch, totalResetCount: expiresOnReset ? totalResetCount : 0 });
  const content = { tag, cpHashA, policyRef, entityName, timeout, expiresOnReset: Number(expiresOnReset), validity };
  return { tag, hierarchy, digest: proofHmac(tpm, hierarchy, encode(authContent, content)) };
}

/** What two tickets are compared by. */
interface Ticket {
  readonly tag: number;
  readonly hierarchy: number;
  readonly digest: Buffer;
}

/** Whether `given` is the ticket that the TPM would make now, compared in constant time. A NULL ticket is never valid. */
export function isTicketValid(expected: Ticket, given: Ticket): boolean {
  if (expected.tag !== given.tag || expected.hierarchy !== given.hierarchy) return false;
  return expected.digest.length > 0 && expected.digest.length === given.digest.length && timingSafeEqual(expected.digest, given.digest);
}
