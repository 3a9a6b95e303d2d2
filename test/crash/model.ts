// What must be there of a guest: a model of the changes that were acknowledged.
import { createHash } from 'node:crypto';
import { TPM_ALG, TPM_ECC_CURVE, TPM_NT, TPMA_NV, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { PolicyAuthValue } from '../../src/tpm/commands/index.js';
import type { TPMS_NV_PUBLIC, TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { none } from '../support/frames.js';
import { eccTemplate } from '../support/templates.js';

/** Indices that are defined and undefined, with the owner's authorization. */
export const FIRST_INDEX = 0x01500000;
export const FIRST_PERSISTENT = 0x81000000;
export const FIRST_TRANSIENT = 0x80000000;
/** PCRs that are extended; the second one can be reset. */
export const PCRS = [10, 16] as const;
/** Authorization value of the indices in {@link fixedIndices}. */
export const NV_AUTH = 'value of the index';

export const signing: TPMT_PUBLIC = {
  ...eccTemplate(TPM_ECC_CURVE.NIST_P256),
  objectAttributes:
    TPMA_OBJECT.fixedTPM |
    TPMA_OBJECT.fixedParent |
    TPMA_OBJECT.sensitiveDataOrigin |
    TPMA_OBJECT.userWithAuth |
    TPMA_OBJECT.noDA |
    TPMA_OBJECT.sign,
};

export const ownerIndex = (nvIndex: number): TPMS_NV_PUBLIC => ({
  nvIndex,
  nameAlg: TPM_ALG.SHA256,
  attributes: TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE,
  authPolicy: none,
  dataSize: 32,
});

const BY_AUTH = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA;
const index = (nvIndex: number, attributes: number): TPMS_NV_PUBLIC => ({
  nvIndex,
  nameAlg: TPM_ALG.SHA256,
  attributes: (BY_AUTH | attributes) >>> 0,
  authPolicy: none,
  dataSize: 8,
});

/** Indices that are there from the beginning: what is written to `durable` goes to the disk, the others are in memory until a shutdown. */
export const fixedIndices = {
  durable: index(0x01500100, 0),
  orderly: index(0x01500101, TPMA_NV.ORDERLY),
  counter: index(0x01500102, (TPM_NT.COUNTER << 4) | TPMA_NV.ORDERLY),
} as const;
export type FixedIndex = keyof typeof fixedIndices;

/** What must be there. Bytes are in hexadecimal. */
export interface Model {
  readonly nv: ReadonlyMap<number, string>;
  readonly fixed: Readonly<Record<FixedIndex, string>>;
  readonly persistent: ReadonlyMap<number, string>;
  readonly ownerAuth: string;
  readonly endorsementAuth: string;
  readonly pcrs: Readonly<Record<number, string>>;
  /** Names of loaded objects, by handle. */
  readonly objects: ReadonlyMap<number, string>;
  /** What went into hash sequences, by handle. */
  readonly sequences: ReadonlyMap<number, string>;
  readonly policyDigest: string;
}

export const ZERO = Buffer.alloc(32).toString('hex');

/** A guest at work, before its first step. */
export const newModel = (objects: ReadonlyMap<number, string>, fixed: Model['fixed']): Model => ({
  nv: new Map(),
  fixed,
  persistent: new Map(),
  ownerAuth: '',
  endorsementAuth: '',
  pcrs: Object.fromEntries(PCRS.map((pcr) => [pcr, ZERO])),
  objects,
  sequences: new Map(),
  policyDigest: ZERO,
});

/** The map with another value; undefined takes the key away. */
export function withEntry<V>(map: ReadonlyMap<number, V>, key: number, value: V | undefined): ReadonlyMap<number, V> {
  const copy = new Map(map);
  if (value === undefined) copy.delete(key);
  else copy.set(key, value);
  return copy;
}

/** SHA-256 over bytes in hexadecimal, put together. */
export function sha256(...parts: readonly string[]): string {
  return createHash('sha256')
    .update(Buffer.from(parts.join(''), 'hex'))
    .digest('hex');
}

/** The digest of a policy session after PolicyAuthValue. */
export const afterAuthValue = (digest: string): string => sha256(digest, PolicyAuthValue.code.toString(16).padStart(8, '0'));

/** The handle that the next object or sequence gets. */
export function nextTransient({ objects, sequences }: Model): number {
  let handle = FIRST_TRANSIENT;
  while (objects.has(handle) || sequences.has(handle)) handle++;
  return handle;
}

/** The model in a form that can be compared with what a guest sees: of sequences it sees the digest. */
export function comparable(model: Model): unknown {
  const sorted = (map: ReadonlyMap<number, string>): unknown => [...map].sort(([a], [b]) => a - b);
  const { nv, persistent, objects, sequences } = model;
  const digests = new Map([...sequences].map(([handle, data]) => [handle, sha256(data)]));
  return { ...model, nv: sorted(nv), persistent: sorted(persistent), objects: sorted(objects), sequences: sorted(digests) };
}
