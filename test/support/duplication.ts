// Objects that may be duplicated, and new parents for them.
import { CreatePrimary, FlushContext, PolicyCommandCode, StartAuthSession } from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_RH, TPM_SE, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { policyDigest } from '../../src/tpm/policy-digest.js';
import type { TPMS_AUTH_COMMAND, TPMT_PUBLIC, TPMT_SYM_DEF_OBJECT_PLUS } from '../../src/tpm/structures/index.js';
import { type Execute, frame, none, run } from './frames.js';
import { asParent, eccTemplate, rsaTemplate } from './templates.js';

const { SHA256, SHA384, AES, CAMELLIA, CFB, NULL } = TPM_ALG;
const FIRST = 0x80000000;
export const noCipher: TPMT_SYM_DEF_OBJECT_PLUS = { algorithm: NULL, keyBits: null, mode: null };
export const aes128: TPMT_SYM_DEF_OBJECT_PLUS = { algorithm: AES, keyBits: 128, mode: CFB };
export const aes256: TPMT_SYM_DEF_OBJECT_PLUS = { algorithm: AES, keyBits: 256, mode: CFB };
export const camellia: TPMT_SYM_DEF_OBJECT_PLUS = { algorithm: CAMELLIA, keyBits: 128, mode: CFB };
export const PARENT_ATTRIBUTES =
  TPMA_OBJECT.userWithAuth |
  TPMA_OBJECT.sensitiveDataOrigin |
  TPMA_OBJECT.restricted |
  TPMA_OBJECT.decrypt |
  TPMA_OBJECT.fixedTPM |
  TPMA_OBJECT.fixedParent |
  TPMA_OBJECT.noDA;

/** Digest of a policy that allows nothing but Duplicate. */
const duplicatePolicy = (alg: number): Buffer => policyDigest([[PolicyCommandCode, { code: TPM_CC.Duplicate }]], alg);

/** The template of an object that may leave. */
export function free<P extends TPMT_PUBLIC>(template: P, more = 0): P {
  return {
    ...template,
    objectAttributes: template.objectAttributes | TPMA_OBJECT.userWithAuth | more,
    authPolicy: duplicatePolicy(template.nameAlg),
  };
}

export interface Loaded {
  readonly handle: number;
  readonly publicArea: TPMT_PUBLIC;
}

export async function primary(execute: Execute, inPublic: TPMT_PUBLIC, data = none, userAuth = none): Promise<Loaded> {
  const request = { primaryHandle: TPM_RH.OWNER, inSensitive: { userAuth, data }, inPublic, outsideInfo: none, creationPCR: [] };
  const { objectHandle, outPublic } = await run(execute, CreatePrimary, request);
  return { handle: objectHandle, publicArea: outPublic };
}

export const parentTemplate = (type: 'rsa' | 'ecc'): TPMT_PUBLIC => ({
  ...asParent(type === 'rsa' ? rsaTemplate() : eccTemplate(undefined, SHA384)),
  objectAttributes: PARENT_ATTRIBUTES,
});

export async function flushAll(...executes: readonly Execute[]): Promise<void> {
  for (const execute of executes) for (let i = 0; i < 4; i++) await execute(frame(FlushContext, { flushHandle: FIRST + i }));
}

/** A policy session that authorizes one Duplicate. */
export async function duplicateSession(execute: Execute, authHash: typeof SHA256 | typeof SHA384 = SHA256): Promise<TPMS_AUTH_COMMAND[]> {
  const handles = { tpmKey: TPM_RH.NULL, bind: TPM_RH.NULL };
  const start = {
    ...handles,
    nonceCaller: Buffer.alloc(16),
    encryptedSalt: none,
    sessionType: TPM_SE.POLICY,
    symmetric: noCipher,
    authHash,
  };
  const { sessionHandle } = await run(execute, StartAuthSession, start, []);
  await run(execute, PolicyCommandCode, { policySession: sessionHandle, code: TPM_CC.Duplicate }, []);
  return [{ sessionHandle, nonce: none, sessionAttributes: 0, hmac: none }];
}
