// Part 3, 31: NV indices of all types.
import {
  NV_Certify,
  NV_ChangeAuth,
  NV_DefineSpace,
  NV_Extend,
  NV_GlobalWriteLock,
  NV_Increment,
  NV_Read,
  NV_ReadLock,
  NV_ReadPublic,
  NV_SetBits,
  NV_UndefineSpace,
  NV_UndefineSpaceSpecial,
  NV_Write,
  NV_WriteLock,
} from '../../../src/tpm/commands/index.js';
import { definedBits, nvType, TPM_NT, TPMA_NV, TPMA_NV_NT_SHIFT } from '../../../src/tpm/constants/index.js';
import { none } from '../../support/frames.js';
import { NothingFits, type Outcome, type Plan, type StepMaker, type WeightedPlan } from '../generator.js';
import { type Entity, NvIndex } from '../model.js';
import type { Step } from '../step.js';
import { signer } from './attestation.js';

const FIRST = 0x01500000;
const INDICES = 8;
const access = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | TPMA_NV.PPREAD | TPMA_NV.PPWRITE;
const features =
  TPMA_NV.WRITEDEFINE |
  TPMA_NV.WRITE_STCLEAR |
  TPMA_NV.READ_STCLEAR |
  TPMA_NV.GLOBALLOCK |
  TPMA_NV.ORDERLY |
  TPMA_NV.CLEAR_STCLEAR |
  TPMA_NV.WRITEALL;
const types = [
  TPM_NT.ORDINARY,
  TPM_NT.ORDINARY,
  TPM_NT.ORDINARY,
  TPM_NT.COUNTER,
  TPM_NT.BITS,
  TPM_NT.EXTEND,
  TPM_NT.PIN_FAIL,
  TPM_NT.PIN_PASS,
];

function sizeOf(g: StepMaker, type: number, nameSize: number): number {
  const { choose } = g;
  if (choose.once(25)) return choose.of(0, 7, 9, 2048, 2049);
  if (type === TPM_NT.EXTEND) return nameSize;
  return type === TPM_NT.ORDINARY ? choose.of(0, 1, 8, 34, 66, 100, 300) : 8;
}

function* define(g: StepMaker): Plan {
  const { model, choose } = g;
  const nvIndex = FIRST + choose.below(INDICES);
  const type = choose.of(...types);
  const nameAlg = g.hash();
  const platform = choose.once(5);
  const policy = model.policies.find((candidate) => candidate.alg === nameAlg && choose.once(2));
  let attributes = (type << TPMA_NV_NT_SHIFT) | choose.bits(access, 2) | choose.bits(features, 6) | TPMA_NV.AUTHREAD;
  attributes |= choose.of(TPMA_NV.AUTHWRITE, TPMA_NV.OWNERWRITE);
  if (type === TPM_NT.PIN_FAIL && !choose.once(6)) attributes |= TPMA_NV.NO_DA;
  if (type === TPM_NT.PIN_FAIL || type === TPM_NT.PIN_PASS) attributes &= ~(choose.once(8) ? 0 : TPMA_NV.AUTHWRITE);
  if (choose.once(2)) attributes |= TPMA_NV.NO_DA;
  if (platform) attributes |= TPMA_NV.PLATFORMCREATE | (choose.once(3) ? TPMA_NV.POLICY_DELETE : 0);
  if (policy !== undefined) attributes |= choose.of(TPMA_NV.POLICYREAD, TPMA_NV.POLICYWRITE, TPMA_NV.POLICYREAD | TPMA_NV.POLICYWRITE);
  if (choose.once(15)) attributes ^= choose.bits(definedBits(TPMA_NV), 20);
  const digest = policy?.digest;
  const authPolicy = Buffer.isBuffer(digest) ? digest : none;
  const nameSize = { 4: 20, 11: 32, 12: 48, 13: 64 }[nameAlg];
  const publicInfo = { nvIndex, nameAlg, attributes: attributes >>> 0, authPolicy, dataSize: sizeOf(g, type, nameSize) };
  const auth = choose.once(2) ? Buffer.from('index') : g.auth();
  const authHandle = platform ? model.platform : choose.once(20) ? model.platform : model.owner;
  const { ok } = yield g.command(NV_DefineSpace, { authHandle, auth, publicInfo }, { exact: choose.once(2) });
  if (ok) model.nv.set(nvIndex, new NvIndex(publicInfo, auth, policy));
}

/** One of the indices that fit; in one of 25 cases any other. Throws {@link NothingFits}. */
function index(g: StepMaker, fits: (nvIndex: NvIndex) => boolean = () => true): NvIndex {
  const { model, choose } = g;
  const all = [...model.nv.values()];
  const fitting = all.filter(fits);
  if (fitting.length > 0 && !choose.once(25)) return choose.of(...fitting);
  if (!choose.once(20)) throw new NothingFits();
  if (all.length > 0 && choose.once(2)) return choose.of(...all);
  const nvIndex = FIRST + choose.below(INDICES);
  return new NvIndex({ nvIndex, nameAlg: 11, attributes: 0, authPolicy: none, dataSize: 8 }, none);
}

const rights = {
  read: [TPMA_NV.AUTHREAD, TPMA_NV.OWNERREAD, TPMA_NV.PPREAD],
  write: [TPMA_NV.AUTHWRITE, TPMA_NV.OWNERWRITE, TPMA_NV.PPWRITE],
} as const;

/** Whether there is someone who may do it without a policy. */
function usable(to: keyof typeof rights): (nvIndex: NvIndex) => boolean {
  return ({ publicArea }) => rights[to].some((right) => (publicArea.attributes & right) !== 0);
}

/** Who authorizes the use of an index: mostly one that may. */
function who(g: StepMaker, nvIndex: NvIndex, to: keyof typeof rights): Entity {
  const { model, choose } = g;
  const all: readonly Entity[] = [nvIndex, model.owner, model.platform];
  if (choose.once(12)) return choose.of(...all, ...model.nv.values());
  const able = all.filter((_, i) => (nvIndex.publicArea.attributes & (rights[to][i] ?? 0)) !== 0);
  return able.length === 0 ? nvIndex : choose.of(...able);
}

function pinData(g: StepMaker): Buffer {
  const data = Buffer.alloc(8);
  data.writeUInt32BE(g.choose.below(3), 0);
  data.writeUInt32BE(g.choose.of(0, 2, 5, 100), 4);
  return data;
}

function* write(g: StepMaker, nvIndex: NvIndex = index(g, usable('write'))): Plan {
  const { choose } = g;
  const authHandle = who(g, nvIndex, 'write');
  const type = nvType(nvIndex.publicArea.attributes);
  if (type === TPM_NT.PIN_FAIL || type === TPM_NT.PIN_PASS) {
    const { ok } = yield g.command(NV_Write, { authHandle, nvIndex, data: pinData(g), offset: choose.once(20) ? 1 : 0 }, { exact: true });
    nvIndex.isWritten ||= ok;
    return;
  }
  const size = nvIndex.publicArea.dataSize;
  const isAll = (nvIndex.publicArea.attributes & TPMA_NV.WRITEALL) !== 0 ? !choose.once(4) : choose.once(2);
  const offset = !isAll && choose.once(3) ? choose.below(size + 2) : 0;
  const data = choose.bytes(isAll ? Math.min(size, 1024) : choose.of(0, 1, 8, Math.min(Math.max(size - offset, 0), 1024), size + 1));
  const { ok } = yield g.command(NV_Write, { authHandle, nvIndex, data: data.subarray(0, 1024), offset });
  nvIndex.isWritten ||= ok;
}

/** What changes the index by its type, or another. */
function* change(g: StepMaker, nvIndex: NvIndex = index(g, usable('write'))): Plan {
  const { choose } = g;
  const both = { authHandle: who(g, nvIndex, 'write'), nvIndex };
  const type = choose.once(12) ? choose.of(...types) : nvType(nvIndex.publicArea.attributes);
  let outcome: Outcome;
  if (type === TPM_NT.COUNTER) outcome = yield g.command(NV_Increment, both);
  else if (type === TPM_NT.BITS) {
    outcome = yield g.command(NV_SetBits, { ...both, bits: BigInt(choose.below(1 << 30)) << BigInt(choose.below(34)) });
  } else if (type === TPM_NT.EXTEND) outcome = yield g.command(NV_Extend, { ...both, data: choose.bytes(choose.of(0, 1, 32, 100)) });
  else {
    yield* write(g, nvIndex);
    return;
  }
  nvIndex.isWritten ||= outcome.ok;
}

/** An index that can be read, mostly. */
function* written(g: StepMaker): Generator<Step, NvIndex, Outcome> {
  const nvIndex = index(g, usable('read'));
  if (!nvIndex.isWritten && !g.choose.once(6)) yield* change(g, nvIndex);
  return nvIndex;
}

function* read(g: StepMaker): Plan {
  const { choose } = g;
  const nvIndex = yield* written(g);
  const size = nvIndex.publicArea.dataSize;
  const offset = choose.once(4) ? choose.below(size + 2) : 0;
  const length = choose.once(3) ? choose.of(0, 1, 8, 1024, 1025) : Math.max(0, size - offset);
  yield g.command(NV_Read, { authHandle: who(g, nvIndex, 'read'), nvIndex, size: length, offset });
}

function* readPublic(g: StepMaker): Plan {
  yield g.command(NV_ReadPublic, { nvIndex: index(g) });
}

/** libtpms has the lock of an orderly index in memory only, though WRITEDEFINE lets it last until the index is deleted. */
const forgetsLock = ({ publicArea }: { readonly publicArea: { readonly attributes: number } }): boolean =>
  (publicArea.attributes & TPMA_NV.ORDERLY) !== 0 && (publicArea.attributes & TPMA_NV.WRITEDEFINE) !== 0;

function* lock(g: StepMaker): Plan {
  const { choose } = g;
  if (choose.once(6) && ![...g.model.nv.values()].some(forgetsLock)) {
    yield g.command(NV_GlobalWriteLock, { authHandle: g.provision() });
    return;
  }
  const [command, to, needs] = choose.of(
    [NV_WriteLock, 'write', TPMA_NV.WRITE_STCLEAR | TPMA_NV.WRITEDEFINE] as const,
    [NV_ReadLock, 'read', TPMA_NV.READ_STCLEAR] as const,
  );
  const nvIndex = index(g, ({ publicArea }) => (publicArea.attributes & needs) !== 0 || choose.once(10));
  if (command === NV_WriteLock && forgetsLock(nvIndex)) return;
  yield g.command(command, { authHandle: who(g, nvIndex, to), nvIndex });
}

function* undefine(g: StepMaker): Plan {
  const { model } = g;
  const nvIndex = index(g);
  const isPlatform = (nvIndex.publicArea.attributes & TPMA_NV.PLATFORMCREATE) !== 0;
  const authHandle = isPlatform === !g.choose.once(15) ? model.platform : model.owner;
  const special = (nvIndex.publicArea.attributes & TPMA_NV.POLICY_DELETE) !== 0;
  const { ok } = special
    ? yield g.command(NV_UndefineSpaceSpecial, { nvIndex, platform: model.platform })
    : yield g.command(NV_UndefineSpace, { authHandle, nvIndex });
  if (ok) model.nv.delete(nvIndex.publicArea.nvIndex);
}

function* changeAuth(g: StepMaker): Plan {
  yield g.command(NV_ChangeAuth, { nvIndex: index(g), newAuth: g.auth() });
}

function* certify(g: StepMaker): Plan {
  const { choose } = g;
  const nvIndex = yield* written(g);
  const size = choose.once(3) ? 0 : nvIndex.publicArea.dataSize;
  const values = {
    ...signer(g),
    authHandle: who(g, nvIndex, 'read'),
    nvIndex,
    size,
    offset: choose.once(5) ? 1 : 0,
  };
  yield g.command(NV_Certify, values);
}

export const nvPlans: readonly WeightedPlan[] = [
  [8, define],
  [6, write],
  [8, change],
  [9, read],
  [4, readPublic],
  [3, lock],
  [3, undefine],
  [1, changeAuth],
  [3, certify],
];
