// What a guest does, and what must be there of it: a model of the changes that were acknowledged.
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPMA_NV, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { type Execute, none, password, run } from '../support/frames.js';
import { eccTemplate } from '../support/templates.js';

export const FIRST_INDEX = 0x01500000;
export const FIRST_PERSISTENT = 0x81000000;
const OWNER_READ_WRITE = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE;

export const signing: TPMT_PUBLIC = {
  ...eccTemplate(TPM_ECC_CURVE.NIST_P256),
  objectAttributes:
    TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign,
};

/** What must be there: changes that were acknowledged. */
export interface Model {
  nv: Map<number, string>;
  persistent: Map<number, string>;
  ownerAuth: string;
  endorsementAuth: string;
}

/** A key that is loaded. */
export interface Key {
  readonly handle: number;
  /** Hexadecimal. */
  readonly name: string;
}

/** One step of the workload: the command, and what the model is when it was acknowledged. */
export interface Step {
  readonly send: (execute: Execute) => Promise<unknown>;
  readonly after: Model;
}

const copy = (model: Model): Model => ({ ...model, nv: new Map(model.nv), persistent: new Map(model.persistent) });
const pick = (count: number): number => Math.floor(Math.random() * count);

function nvStep(model: Model): Step {
  const after = copy(model);
  const nvIndex = FIRST_INDEX + pick(12);
  const on = { authHandle: TPM_RH.OWNER, nvIndex };
  const owner = [password(model.ownerAuth)];
  if (!model.nv.has(nvIndex)) {
    after.nv.set(nvIndex, '');
    const publicInfo = { nvIndex, nameAlg: TPM_ALG.SHA256, attributes: OWNER_READ_WRITE, authPolicy: none, dataSize: 32 } as const;
    return { after, send: (execute) => run(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo }, owner) };
  }
  if (pick(4) === 0) {
    after.nv.delete(nvIndex);
    return { after, send: (execute) => run(execute, Commands.NV_UndefineSpace, on, owner) };
  }
  const data = Buffer.from(Math.random().toString().padEnd(32, '0').slice(0, 32));
  after.nv.set(nvIndex, data.toString());
  return { after, send: (execute) => run(execute, Commands.NV_Write, { ...on, data, offset: 0 }, owner) };
}

function evictStep(model: Model, key: Key): Step {
  const after = copy(model);
  const persistentHandle = FIRST_PERSISTENT + pick(6);
  const present = model.persistent.has(persistentHandle);
  if (present) after.persistent.delete(persistentHandle);
  else after.persistent.set(persistentHandle, key.name);
  const objectHandle = present ? persistentHandle : key.handle;
  const request = { auth: TPM_RH.OWNER, objectHandle, persistentHandle };
  return { after, send: (execute) => run(execute, Commands.EvictControl, request, [password(model.ownerAuth)]) };
}

function authStep(model: Model, which: 'ownerAuth' | 'endorsementAuth'): Step {
  const after = copy(model);
  after[which] = pick(2) === 0 ? '' : `auth${pick(1000).toString()}`;
  const authHandle = which === 'ownerAuth' ? TPM_RH.OWNER : TPM_RH.ENDORSEMENT;
  return {
    after,
    send: (execute) =>
      run(execute, Commands.HierarchyChangeAuth, { authHandle, newAuth: Buffer.from(after[which]) }, [password(model[which])]),
  };
}

function volatileStep(model: Model): Step {
  const digests = [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 3) }] as const;
  const sends = [
    (execute: Execute) => run(execute, Commands.PCR_Extend, { pcrHandle: 10, digests: [...digests] }),
    (execute: Execute) => run(execute, Commands.GetRandom, { bytesRequested: 16 }),
  ];
  return { after: model, send: sends[pick(sends.length)]! };
}

/** What a guest does next; `key` is loaded. */
export function nextStep(model: Model, key: Key): Step {
  const kind = pick(10);
  if (kind < 5) return nvStep(model);
  if (kind < 7) return evictStep(model, key);
  if (kind < 8) return authStep(model, pick(2) === 0 ? 'ownerAuth' : 'endorsementAuth');
  return volatileStep(model);
}

export const newModel = (): Model => ({ nv: new Map(), persistent: new Map(), ownerAuth: '', endorsementAuth: '' });

/** The model in a form that can be compared. */
export const sorted = (model: Model): unknown => ({ ...model, nv: [...model.nv].sort(), persistent: [...model.persistent].sort() });
