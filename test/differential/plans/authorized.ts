// Part 1, 19.7: policies that can be fulfilled, put on entities of every kind and fulfilled for a command.
import {
  Certify,
  ClockRateAdjust,
  Create,
  CreatePrimary,
  HierarchyControl,
  Load,
  NV_ChangeAuth,
  NV_DefineSpace,
  NV_Extend,
  NV_Increment,
  NV_Read,
  NV_ReadLock,
  NV_SetBits,
  NV_UndefineSpaceSpecial,
  NV_Write,
  NV_WriteLock,
  ObjectChangeAuth,
  PCR_Extend,
  PCR_SetAuthPolicy,
  PolicyAuthValue,
  PolicyCommandCode,
  PolicyCounterTimer,
  PolicyGetDigest,
  PolicyLocality,
  PolicyOR,
  PolicyPassword,
  PolicyPCR,
  PolicySecret,
  SetPrimaryPolicy,
  Sign,
  Unseal,
} from '../../../src/tpm/commands/index.js';
import {
  TPM_ALG,
  TPM_EO,
  TPM_NT,
  TPM_RH,
  TPM_SE,
  TPM_ST,
  TPMA_NV,
  TPMA_NV_NT_SHIFT,
  TPMA_OBJECT,
} from '../../../src/tpm/constants/index.js';
import { digestSize } from '../../../src/tpm/hash.js';
import type { TPMT_PUBLIC } from '../../../src/tpm/structures/index.js';
import { type AnyCommand, none } from '../../support/frames.js';
import { hmacTemplate, sealTemplate } from '../../support/templates.js';
import type { Outcome, Plan, StepMaker, WeightedPlan } from '../generator.js';
import { Entity, LoadedObject, NvIndex, type Policy, type PolicyElement, type SessionModel } from '../model.js';
import type { Step } from '../step.js';
import { handleOf, outputOf } from '../symbols.js';
import { makeRoom } from './object.js';
import { startSession } from './session.js';
import { factsOf, isParent } from './templates.js';

/** A part of a plan that comes to something, or not. */
type Making<T> = Generator<Step, T | undefined, Outcome>;

const noScheme = { scheme: TPM_ALG.NULL, details: null } as const;
const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;

/** A condition that holds. */
function condition(g: StepMaker): PolicyElement {
  const { choose, model } = g;
  const secret = { authHandle: choose.of(model.owner, model.platform), nonceTPM: none, cpHashA: none, policyRef: none, expiration: 0 };
  return choose.of<PolicyElement>(
    { command: PolicyAuthValue, values: {}, gives: 'authValue' },
    { command: PolicyPassword, values: {}, gives: 'password' },
    { command: PolicyLocality, values: { locality: choose.of(0x01, 0x1f) } },
    { command: PolicyPCR, values: { pcrDigest: none, pcrs: g.pcrSelection() } },
    { command: PolicySecret, values: secret },
    { command: PolicyCounterTimer, values: { operandB: Buffer.alloc(4), offset: 16, operation: TPM_EO.UNSIGNED_GE } },
  );
}

function* digestOf(g: StepMaker, session: SessionModel): Making<Buffer> {
  const { ok, out } = yield g.command(
    PolicyGetDigest,
    { policySession: handleOf(session.symbol) },
    { deterministic: true, plain: true, exact: true },
  );
  return ok ? Buffer.from(out['policyDigest'] as Buffer) : undefined;
}

function* doElements(g: StepMaker, session: SessionModel, elements: readonly PolicyElement[]): Plan {
  for (const one of elements) {
    const values = { ...one.values, policySession: handleOf(session.symbol) };
    const { ok } = yield g.command(one.command, values, { exact: true, plain: true, locality: 0 });
    if (ok) session.elements.push(one);
  }
}

/** A policy for a command, worked out in a trial session. */
function* policyFor(g: StepMaker, command: AnyCommand): Making<Policy> {
  const { choose } = g;
  const alg = g.hash();
  const isAdmin = command.handleList[0]?.[1].role === 'ADMIN';
  const elements: PolicyElement[] = isAdmin || choose.once(2) ? [{ command: PolicyCommandCode, values: { code: command.code } }] : [];
  for (let i = choose.of(0, 1, 1, 2); i > 0; i--) elements.push(condition(g));
  yield* startSession(g, { sessionType: TPM_SE.TRIAL, authHash: alg });
  const session = g.model.newest;
  if (session === undefined) return undefined;
  yield* doElements(g, session, elements);
  if (choose.once(4)) {
    const branch = yield* digestOf(g, session);
    if (branch === undefined) return undefined;
    const either: PolicyElement = { command: PolicyOR, values: { pHashList: [choose.bytes(digestSize(alg)), branch] } };
    yield* doElements(g, session, [either]);
    elements.push(either);
  }
  const digest = yield* digestOf(g, session);
  return digest === undefined ? undefined : { alg, elements, digest };
}

/** What a policy is put on, and the command's other values. */
interface Target {
  readonly entity: Entity;
  readonly values: Readonly<Record<string, unknown>>;
  readonly done?: () => void;
}

interface Goal {
  readonly command: AnyCommand;
  readonly target: (g: StepMaker, policy: Policy) => Making<Target>;
}

const OWNER = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE;

/** An index with the policy; it need not be written before. */
function nvGoal(command: AnyCommand, type: number, attributes: number, values: (g: StepMaker) => Target['values'] = () => ({})): Goal {
  return {
    command,
    *target(g, policy) {
      const { model, choose } = g;
      const platform = (attributes & TPMA_NV.PLATFORMCREATE) !== 0;
      const publicInfo = {
        nvIndex: 0x01500020 + choose.below(16),
        nameAlg: policy.alg,
        attributes:
          ((type << TPMA_NV_NT_SHIFT) |
            attributes |
            TPMA_NV.POLICYREAD |
            TPMA_NV.POLICYWRITE |
            choose.of(0, TPMA_NV.NO_DA, OWNER | TPMA_NV.NO_DA)) >>>
          0,
        authPolicy: policy.digest as Buffer,
        dataSize: type === TPM_NT.EXTEND ? digestSize(policy.alg) : 8,
      };
      if (model.nv.has(publicInfo.nvIndex)) return undefined;
      const auth = g.auth();
      const authHandle = platform ? model.platform : model.owner;
      if (!(yield g.command(NV_DefineSpace, { authHandle, auth, publicInfo }, { exact: true, plain: true })).ok) return undefined;
      const entity = new NvIndex(publicInfo, auth, policy);
      model.nv.set(publicInfo.nvIndex, entity);
      const handles = { authHandle: entity, nvIndex: entity, platform: model.platform };
      const names = command.handleList.map(([name]) => name);
      const own = Object.fromEntries(Object.entries(handles).filter(([name]) => names.includes(name)));
      const done = command === NV_UndefineSpaceSpecial ? (): boolean => model.nv.delete(publicInfo.nvIndex) : undefined;
      return { entity, values: { ...own, ...values(g) }, ...(done !== undefined && { done }) };
    },
  };
}

/** A new primary object with the policy. */
function objectGoal(command: AnyCommand, template: TPMT_PUBLIC, values: (g: StepMaker, object: LoadedObject) => Target['values']): Goal {
  return {
    command,
    *target(g, policy) {
      const { choose, model } = g;
      yield* makeRoom(g);
      const isAdmin = command.handleList[0]?.[1].role === 'ADMIN';
      const only = isAdmin ? TPMA_OBJECT.adminWithPolicy : choose.once(2) ? TPMA_OBJECT.userWithAuth : 0;
      const objectAttributes = (template.objectAttributes ^ only) >>> 0;
      const inPublic = { ...template, objectAttributes, nameAlg: policy.alg, authPolicy: policy.digest as Buffer };
      const [auth, symbol, hierarchy] = [g.auth(), g.symbol('target'), g.hierarchy()];
      const data = (objectAttributes & TPMA_OBJECT.sensitiveDataOrigin) === 0 ? choose.bytes(20) : none;
      const request = { primaryHandle: hierarchy, inSensitive: { userAuth: auth, data }, inPublic, outsideInfo: none, creationPCR: [] };
      if (!(yield g.command(CreatePrimary, request, { save: { symbol }, exact: true, plain: true })).ok) return undefined;
      const facts = factsOf(inPublic, hierarchy.handle as number, data);
      const entity = LoadedObject.transient(symbol, auth, facts, undefined, policy);
      entity.creation = symbol;
      model.loaded.push(entity);
      return { entity, values: values(g, entity) };
    },
  };
}

/** A child with the policy, whose authValue is changed. */
function* changedChild(g: StepMaker, policy: Policy): Making<Target> {
  const { model } = g;
  const parent = g.object(isParent);
  yield* makeRoom(g);
  const template = sealTemplate();
  const objectAttributes = template.objectAttributes | TPMA_OBJECT.adminWithPolicy;
  const inPublic = { ...template, objectAttributes, nameAlg: policy.alg, authPolicy: policy.digest as Buffer };
  const [auth, created, loaded] = [g.auth(), g.symbol('created'), g.symbol('loaded')];
  const request = {
    parentHandle: parent,
    inSensitive: { userAuth: auth, data: Buffer.from('x') },
    inPublic,
    outsideInfo: none,
    creationPCR: [],
  };
  if (!(yield g.command(Create, request, { save: { symbol: created }, exact: true })).ok) return undefined;
  const areas = { inPrivate: outputOf(created, 'outPrivate'), inPublic: outputOf(created, 'outPublic') };
  if (!(yield g.command(Load, { parentHandle: parent, ...areas }, { save: { symbol: loaded }, exact: true })).ok) return undefined;
  const facts = factsOf(inPublic, parent.facts?.hierarchy ?? TPM_RH.OWNER, Buffer.from('x'));
  const entity = LoadedObject.transient(loaded, auth, facts, undefined, policy);
  entity.parent = parent;
  model.loaded.push(entity);
  return { entity, values: { objectHandle: entity, parentHandle: parent, newAuth: g.auth() } };
}

/** A hierarchy with the policy. */
function hierarchyGoal(command: AnyCommand, values: Target['values']): Goal {
  return {
    command,
    *target(g, policy) {
      const entity = g.provision();
      const request = { authHandle: entity, authPolicy: policy.digest, hashAlg: policy.alg };
      if (!(yield g.command(SetPrimaryPolicy, request, { exact: true, plain: true })).ok) return undefined;
      return { entity, values: { [command.handleList[0]?.[0] ?? '']: entity, ...values } };
    },
  };
}

/** A PCR with the policy. */
function* pcrTarget(g: StepMaker, policy: Policy): Making<Target> {
  const { model, choose } = g;
  const pcrNum = choose.of(20, 21, 22);
  const request = { authHandle: model.platform, authPolicy: policy.digest, hashAlg: policy.alg, pcrNum };
  if (!(yield g.command(PCR_SetAuthPolicy, request, { exact: true, plain: true })).ok) return undefined;
  const entity = model.pcrAuth.get(pcrNum) ?? new Entity(pcrNum);
  const digests = [{ hashAlg: TPM_ALG.SHA256, digest: choose.bytes(32) }];
  return { entity, values: { pcrHandle: entity, digests } };
}

const { ORDINARY, COUNTER, BITS, EXTEND } = TPM_NT;
const deletable = TPMA_NV.PLATFORMCREATE | TPMA_NV.POLICY_DELETE;
const goals: readonly Goal[] = [
  nvGoal(NV_UndefineSpaceSpecial, ORDINARY, deletable),
  nvGoal(NV_UndefineSpaceSpecial, ORDINARY, deletable),
  nvGoal(NV_ChangeAuth, ORDINARY, 0, (g) => ({ newAuth: g.auth() })),
  nvGoal(NV_ChangeAuth, COUNTER, TPMA_NV.PLATFORMCREATE, (g) => ({ newAuth: g.auth() })),
  nvGoal(NV_Write, ORDINARY, 0, (g) => ({ data: g.choose.bytes(8), offset: 0 })),
  nvGoal(NV_Read, ORDINARY, 0, () => ({ size: 8, offset: 0 })),
  nvGoal(NV_Increment, COUNTER, 0),
  nvGoal(NV_SetBits, BITS, 0, () => ({ bits: 5n })),
  nvGoal(NV_Extend, EXTEND, 0, (g) => ({ data: g.choose.bytes(8) })),
  nvGoal(NV_WriteLock, ORDINARY, TPMA_NV.WRITE_STCLEAR),
  nvGoal(NV_ReadLock, ORDINARY, TPMA_NV.READ_STCLEAR),
  objectGoal(Unseal, sealTemplate(), (_g, itemHandle) => ({ itemHandle })),
  objectGoal(Unseal, sealTemplate(), (_g, itemHandle) => ({ itemHandle })),
  objectGoal(Sign, hmacTemplate(), (g, keyHandle) => ({
    keyHandle,
    digest: g.choose.bytes(32),
    inScheme: noScheme,
    validation: noTicket,
  })),
  objectGoal(Certify, hmacTemplate(), (g, objectHandle) => ({
    objectHandle,
    signHandle: g.choose.of<Entity>(objectHandle, g.model.null),
    qualifyingData: none,
    inScheme: noScheme,
  })),
  { command: ObjectChangeAuth, target: changedChild },
  hierarchyGoal(ClockRateAdjust, { rateAdjust: 0 }),
  hierarchyGoal(HierarchyControl, { enable: TPM_RH.PLATFORM_NV, state: 1 }),
  { command: PCR_Extend, target: pcrTarget },
];

/** Makes a policy for a command, puts it on something new and does the command. */
function* fulfil(g: StepMaker): Plan {
  const { choose, model } = g;
  const { command, target: make } = choose.of(...goals);
  const policy = yield* policyFor(g, command);
  if (policy === undefined) return;
  const target = yield* make(g, policy);
  if (target === undefined) return;
  yield* startSession(g, { sessionType: TPM_SE.POLICY, authHash: policy.alg });
  const session = model.newest;
  if (session === undefined) return;
  yield* doElements(g, session, policy.elements);
  const { values, entity, done } = target;
  const newAuth = command === NV_ChangeAuth ? (values['newAuth'] as Buffer) : undefined;
  const options = { policy: session, locality: choose.once(12) ? 1 : 0, ...(newAuth !== undefined && { newAuth }) };
  const { ok } = yield g.command(command, values, options);
  if (!ok) return;
  if (newAuth !== undefined) entity.auth = newAuth;
  done?.();
}

export const authorizedPlans: readonly WeightedPlan[] = [[12, fulfil]];
