// TPM 2.0 Library Part 1, 30 and Part 2, 14: protection of saved contexts. A context is encrypted and authenticated (AES-256-GCM) under a key
// that is derived from the proof of its hierarchy, and bound to the count of TPM resets, so that it can't outlive one. The blob is a
// TPMS_CONTEXT_DATA: the tag is its integrity value, nonce and cipher text are what is encrypted.
import { randomBytes } from 'node:crypto';
import { AEAD_KEY_SIZE, AEAD_NONCE_SIZE, AEAD_TAG_SIZE, openAead, sealAead } from '../../crypto/aead.js';
import { SAVED_HANDLE, TPM_ALG } from '../../tpm/constants/index.js';
import { KDFa } from '../../tpm/kdf.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { encode, type Schema, struct, uint32, uint64 } from '../../tpm/schema.js';
import { Reader } from '../../tpm/wire.js';
import { TPM2B_DIGEST, TPMS_CONTEXT_DATA, type TPMS_CONTEXT } from '../../tpm/structures/index.js';
import type { Tpm } from '../tpm.js';

const none = Buffer.alloc(0);
/** Two sizes, the tag and the nonce. */
const SMALLEST_BLOB = 2 + AEAD_TAG_SIZE + 2 + AEAD_NONCE_SIZE;

/** The fields of a context that are in clear. */
export type ContextHeader = Omit<TPMS_CONTEXT, 'contextBlob'>;

const boundTo = struct({ sequence: uint64, savedHandle: uint32, hierarchy: uint32, totalResetCount: uint32, clearCount: uint32 });

/** What a blob is authenticated with. Contexts of stClear objects are bound to the count of TPM restarts as well. */
function associatedData(tpm: Tpm, { sequence, savedHandle, hierarchy }: ContextHeader): Buffer {
  const { totalResetCount, clearCount } = tpm.clock;
  const restarts = savedHandle === SAVED_HANDLE.TRANSIENT_ST_CLEAR ? clearCount : 0;
  return encode(boundTo, { sequence, savedHandle, hierarchy, totalResetCount, clearCount: restarts });
}

function contextKey(tpm: Tpm, hierarchy: number): Buffer {
  return KDFa(TPM_ALG.SHA512, tpm.hierarchies.get(hierarchy).proof, 'CONTEXT', none, none, AEAD_KEY_SIZE * 8);
}

/** A context with this header. `value` is encoded by `schema`; the encoding is zeroized. */
export function sealContext<T>(tpm: Tpm, header: ContextHeader, schema: Schema<T>, value: T): TPMS_CONTEXT {
  const key = contextKey(tpm, header.hierarchy);
  const nonce = randomBytes(AEAD_NONCE_SIZE);
  const clear = encode(schema, value);
  const sealed = sealAead(key, nonce, associatedData(tpm, header), clear);
  clear.fill(0);
  key.fill(0);
  const tagAt = sealed.length - AEAD_TAG_SIZE;
  const data = { integrity: sealed.subarray(tagAt), encrypted: Buffer.concat([nonce, sealed.subarray(0, tagAt)]) };
  return { ...header, contextBlob: encode(TPMS_CONTEXT_DATA, data) };
}

/** The parts of a blob, as views. `TPM_RC_SIZE` if they have not the sizes that ours have, `TPM_RC_INTEGRITY` if it ends too early or too late. */
function parts(contextBlob: Buffer): TPMS_CONTEXT_DATA {
  if (contextBlob.length < SMALLEST_BLOB) throw new TpmError(TPM_RC.SIZE);
  const reader = new Reader(contextBlob);
  const integrity = TPM2B_DIGEST.decode(reader);
  if (integrity.length !== AEAD_TAG_SIZE) throw new TpmError(TPM_RC.SIZE);
  if (reader.uint16() !== reader.remaining) throw new TpmError(TPM_RC.INTEGRITY);
  return { integrity, encrypted: reader.view(reader.remaining) };
}

/**
 * The encoding that {@link sealContext} encrypted; it belongs to the caller. `TPM_RC_SIZE` if the blob has not the parts of a
 * `TPMS_CONTEXT_DATA` of ours, `TPM_RC_INTEGRITY` if it was not made by this TPM for this header since the last reset.
 */
export function openContext(tpm: Tpm, { contextBlob, ...header }: TPMS_CONTEXT): Buffer {
  const { integrity, encrypted } = parts(contextBlob);
  const key = contextKey(tpm, header.hierarchy);
  const nonce = encrypted.subarray(0, AEAD_NONCE_SIZE);
  const sealed = Buffer.concat([encrypted.subarray(AEAD_NONCE_SIZE), integrity]);
  const clear = openAead(key, nonce, associatedData(tpm, header), sealed);
  key.fill(0);
  if (clear === undefined) throw new TpmError(TPM_RC.INTEGRITY);
  return clear;
}
