// What a guest does, one command at a time, and what must be there of it afterwards.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { TPM_ALG, TPM_RH, TPM_ST, TPMA_NV } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import { nameOfNvPublic } from '../../src/tpm/name.js';
import { type Execute, none, password, run } from '../support/frames.js';
import { type ClientSession, runWithSessions } from '../support/sessions.js';
import {
  afterAuthValue,
  FIRST_INDEX,
  FIRST_PERSISTENT,
  type FixedIndex,
  fixedIndices,
  type Model,
  NV_AUTH,
  nextTransient,
  ownerIndex,
  PCRS,
  sha256,
  signing,
  withEntry,
  ZERO,
} from './model.js';

/** What a guest works with besides the model. */
export interface Tools {
  /** Handle of a key that stays loaded, and its Name in hexadecimal. */
  readonly key: { readonly handle: number; readonly name: string };
  readonly hmac: ClientSession;
  readonly policy: ClientSession;
}

/** One step of the workload: the command, and what the model is when it was acknowledged. */
export interface Step {
  readonly send: (execute: Execute) => Promise<unknown>;
  readonly after: Model;
  /** It uses the HMAC session: whoever does not get the answer does not know the session's next nonce. */
  readonly usesHmac?: boolean;
}

const LARGEST_UPDATE = 100;
const pick = (count: number): number => Math.floor(Math.random() * count);
const anyOf = <T>(values: Iterable<T>): T | undefined => [...values].sort(() => Math.random() - 0.5)[0];

function ownerNv(model: Model): Step {
  const nvIndex = FIRST_INDEX + pick(12);
  const on = { authHandle: TPM_RH.OWNER, nvIndex };
  const owner = [password(model.ownerAuth)];
  const step = (value: string | undefined, send: Step['send']): Step => ({
    after: { ...model, nv: withEntry(model.nv, nvIndex, value) },
    send,
  });
  if (!model.nv.has(nvIndex)) {
    const request = { authHandle: TPM_RH.OWNER, auth: none, publicInfo: ownerIndex(nvIndex) };
    return step('', (execute) => run(execute, Commands.NV_DefineSpace, request, owner));
  }
  if (pick(4) === 0) return step(undefined, (execute) => run(execute, Commands.NV_UndefineSpace, on, owner));
  const data = randomBytes(32);
  return step(data.toString('hex'), (execute) => run(execute, Commands.NV_Write, { ...on, data, offset: 0 }, owner));
}

/** Names that the HMAC of a session is over. */
export const namesOf = (which: FixedIndex): Map<number, Buffer> => {
  const { attributes, ...others } = fixedIndices[which];
  const written = { ...others, attributes: (attributes | TPMA_NV.WRITTEN) >>> 0 };
  return new Map([[written.nvIndex, nameOfNvPublic(written)]]);
};

/** In an HMAC session: the next nonce of the session and what is written are there, or neither. */
function hmacWrite(model: Model, { hmac }: Tools): Step {
  const which = pick(2) === 0 ? 'durable' : 'orderly';
  const { nvIndex } = fixedIndices[which];
  const data = randomBytes(8);
  const request = { authHandle: nvIndex, nvIndex, data, offset: 0 };
  return {
    after: { ...model, fixed: { ...model.fixed, [which]: data.toString('hex') } },
    send: (execute) => runWithSessions(execute, Commands.NV_Write, request, [{ session: hmac, auth: NV_AUTH }], namesOf(which)),
    usesHmac: true,
  };
}

function count(model: Model): Step {
  const { nvIndex } = fixedIndices.counter;
  const counter = (BigInt(`0x${model.fixed.counter}`) + 1n).toString(16).padStart(16, '0');
  return {
    after: { ...model, fixed: { ...model.fixed, counter } },
    send: (execute) => run(execute, Commands.NV_Increment, { authHandle: nvIndex, nvIndex }, [password(NV_AUTH)]),
  };
}

function evict(model: Model, { key }: Tools): Step {
  const persistentHandle = FIRST_PERSISTENT + pick(6);
  const present = model.persistent.has(persistentHandle);
  const request = { auth: TPM_RH.OWNER, objectHandle: present ? persistentHandle : key.handle, persistentHandle };
  return {
    after: { ...model, persistent: withEntry(model.persistent, persistentHandle, present ? undefined : key.name) },
    send: (execute) => run(execute, Commands.EvictControl, request, [password(model.ownerAuth)]),
  };
}

function changeAuth(model: Model): Step {
  const which = pick(2) === 0 ? 'ownerAuth' : 'endorsementAuth';
  const authHandle = which === 'ownerAuth' ? TPM_RH.OWNER : TPM_RH.ENDORSEMENT;
  const value = pick(2) === 0 ? '' : `auth${pick(1000).toString()}`;
  const request = { authHandle, newAuth: Buffer.from(value) };
  return {
    after: { ...model, [which]: value },
    send: (execute) => run(execute, Commands.HierarchyChangeAuth, request, [password(model[which])]),
  };
}

function changePcr(model: Model): Step {
  const pcrHandle = PCRS[pick(2)] ?? 16;
  const step = (value: string, send: Step['send']): Step => ({ after: { ...model, pcrs: { ...model.pcrs, [pcrHandle]: value } }, send });
  if (pcrHandle === 16 && pick(6) === 0) return step(ZERO, (execute) => run(execute, Commands.PCR_Reset, { pcrHandle }));
  const digest = randomBytes(32);
  return step(sha256(model.pcrs[pcrHandle] ?? '', digest.toString('hex')), (execute) =>
    run(execute, Commands.PCR_Extend, { pcrHandle, digests: [{ hashAlg: TPM_ALG.SHA256, digest }] }),
  );
}

function loadOrFlush(model: Model, { key }: Tools): Step {
  const loaded = anyOf([...model.objects.keys()].filter((handle) => handle !== key.handle));
  if (loaded !== undefined && (model.objects.size > 4 || pick(2) === 0)) {
    const objects = withEntry(model.objects, loaded, undefined);
    return { after: { ...model, objects }, send: (execute) => run(execute, Commands.FlushContext, { flushHandle: loaded }) };
  }
  const handle = nextTransient(model);
  const request = {
    primaryHandle: TPM_RH.OWNER,
    inSensitive: { userAuth: none, data: none },
    inPublic: signing,
    outsideInfo: none,
    creationPCR: [],
  };
  return {
    after: { ...model, objects: withEntry(model.objects, handle, key.name) },
    send: async (execute) => {
      const { objectHandle } = await run(execute, Commands.CreatePrimary, request, [password(model.ownerAuth)]);
      assert.equal(objectHandle, handle);
    },
  };
}

function sequence(model: Model): Step {
  const going = anyOf(model.sequences.keys());
  const step = (handle: number, data: string | undefined, send: Step['send']): Step => ({
    after: { ...model, sequences: withEntry(model.sequences, handle, data) },
    send,
  });
  if (going === undefined || (model.sequences.size < 3 && pick(4) === 0)) {
    const handle = nextTransient(model);
    return step(handle, '', async (execute) => {
      const { sequenceHandle } = await run(execute, Commands.HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 });
      assert.equal(sequenceHandle, handle);
    });
  }
  const data = model.sequences.get(going) ?? '';
  if (pick(4) === 0) {
    return step(going, undefined, async (execute) => {
      const request = { sequenceHandle: going, buffer: none, hierarchy: TPM_RH.NULL };
      const { result } = await run(execute, Commands.SequenceComplete, request);
      assert.equal(result.toString('hex'), sha256(data));
    });
  }
  const buffer = randomBytes(pick(LARGEST_UPDATE));
  return step(going, data + buffer.toString('hex'), (execute) => run(execute, Commands.SequenceUpdate, { sequenceHandle: going, buffer }));
}

function policy(model: Model, { policy: { handle: policySession } }: Tools): Step {
  if (pick(6) === 0) {
    const sessionHandle = policySession;
    return { after: { ...model, policyDigest: ZERO }, send: (execute) => run(execute, Commands.PolicyRestart, { sessionHandle }) };
  }
  return {
    after: { ...model, policyDigest: afterAuthValue(model.policyDigest) },
    send: (execute) => run(execute, Commands.PolicyAuthValue, { policySession }),
  };
}

/** Nothing changes. */
function use(model: Model): Step {
  if (pick(2) === 0) return { after: model, send: (execute) => run(execute, Commands.GetRandom, { bytesRequested: 16 }) };
  const keyHandle = anyOf(model.objects.keys()) ?? 0;
  const request = {
    keyHandle,
    digest: randomBytes(32),
    inScheme: { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } } as const,
    validation: { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const,
  };
  return { after: model, send: (execute) => run(execute, Commands.Sign, request) };
}

const steps = [
  ownerNv,
  ownerNv,
  hmacWrite,
  hmacWrite,
  count,
  evict,
  changeAuth,
  changePcr,
  changePcr,
  loadOrFlush,
  sequence,
  sequence,
  policy,
  use,
];

/** What a guest does next. */
export function nextStep(model: Model, tools: Tools): Step {
  return (steps[pick(steps.length)] ?? use)(model, tools);
}
