// Part 3, 23: policies. Commands in sessions and trial sessions; policies that are kept, put on entities and fulfilled.
import type { Request } from '../../../src/tpm/command.js';
import {
  Certify,
  Duplicate,
  LoadExternal,
  NV_ChangeAuth,
  NV_DefineSpace,
  NV_Read,
  NV_Write,
  ObjectChangeAuth,
  PolicyAuthorize,
  PolicyAuthorizeNV,
  PolicyAuthValue,
  PolicyCommandCode,
  PolicyCounterTimer,
  PolicyCpHash,
  PolicyDuplicationSelect,
  PolicyGetDigest,
  PolicyLocality,
  PolicyNameHash,
  PolicyNV,
  PolicyNvWritten,
  PolicyOR,
  PolicyPassword,
  PolicyPCR,
  PolicyPhysicalPresence,
  PolicySecret,
  PolicySigned,
  PolicyTemplate,
  PolicyTicket,
  ReadClock,
  Sign,
  Unseal,
  VerifySignature,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_EO, TPM_RH, TPM_SE, TPM_ST, TPMA_NV } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import { nameOfPublic } from '../../../src/tpm/name.js';
import { encode } from '../../../src/tpm/schema.js';
import { TPMT_HA, type TPMT_PUBLIC } from '../../../src/tpm/structures/index.js';
import { none } from '../../support/frames.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import { LoadedObject, NvIndex, type PolicyElement, type SessionModel } from '../model.js';
import { handleOf, outputOf } from '../symbols.js';
import { policySigner } from './external-keys.js';
import { makeRoom } from './object.js';
import { startSession } from './session.js';

const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
const codes = [
  TPM_CC.Unseal,
  TPM_CC.Sign,
  TPM_CC.NV_Read,
  TPM_CC.NV_ChangeAuth,
  TPM_CC.Certify,
  TPM_CC.ObjectChangeAuth,
  TPM_CC.Duplicate,
  TPM_CC.ReadClock,
  0x1ff,
];

function operand(g: StepMaker): { operandB: Buffer; offset: number; operation: number } {
  const { choose } = g;
  return {
    operandB: choose.of(none, Buffer.of(0), choose.bytes(4), choose.bytes(8), choose.bytes(40)),
    offset: choose.of(0, 0, 1, 4, 8),
    operation: choose.of(...Object.values(TPM_EO)),
  };
}

/** Terms of PolicySecret and PolicySigned. Nothing expires while a sequence runs. */
function terms(g: StepMaker, session: SessionModel): Record<string, unknown> {
  const { choose } = g;
  const nonceTPM = choose.of<unknown>(none, none, none, outputOf(session.symbol, 'nonceTPM'), choose.once(8) ? choose.bytes(32) : none);
  const cpHashA = choose.once(10) ? g.digest(session.alg) : none;
  const policyRef = choose.once(4) ? Buffer.from('ref') : none;
  return { nonceTPM, cpHashA, policyRef, expiration: choose.of(0, 0, 0, -5000, 5000, -100000) };
}

/** One policy command that needs nothing but the session. */
function element(g: StepMaker, session: SessionModel): PolicyElement {
  const { choose, model } = g;
  switch (choose.below(15)) {
    case 0:
    case 1:
      return { command: PolicyAuthValue, values: {}, gives: 'authValue' };
    case 2:
      return { command: PolicyPassword, values: {}, gives: 'password' };
    case 3:
      return { command: PolicyCommandCode, values: { code: choose.of(...codes) } };
    case 4:
      return { command: PolicyLocality, values: { locality: choose.of(1, 1, 3, 0x1f, 0, 32, 64) } };
    case 5: {
      const pcrs = g.pcrSelection();
      return { command: PolicyPCR, values: { pcrDigest: choose.once(4) ? g.digest(session.alg) : none, pcrs } };
    }
    case 6: {
      const all = [...model.nv.values()];
      const nvIndex =
        all.length === 0
          ? new NvIndex({ nvIndex: 0x01500000, nameAlg: 11, attributes: 0, authPolicy: none, dataSize: 0 }, none)
          : choose.of(...all);
      const authHandle = choose.of(nvIndex, nvIndex, model.owner);
      return choose.once(4)
        ? { command: PolicyAuthorizeNV, values: { authHandle, nvIndex } }
        : { command: PolicyNV, values: { authHandle, nvIndex, ...operand(g) } };
    }
    case 7:
      return {
        command: PolicyCounterTimer,
        values: choose.once(2)
          ? { operandB: Buffer.alloc(4), offset: 16, operation: choose.of(TPM_EO.EQ, TPM_EO.UNSIGNED_GE) }
          : { ...operand(g), offset: choose.of(16, 20, 25, 40), operandB: choose.of(Buffer.alloc(1), Buffer.alloc(4)) },
      };
    case 8:
      return { command: choose.of(PolicyCpHash, PolicyCpHash), values: { cpHashA: g.digest(session.alg) } };
    case 9:
      return { command: PolicyNameHash, values: { nameHash: g.digest(session.alg) } };
    case 10:
      return { command: PolicyNvWritten, values: { writtenSet: choose.below(2) } };
    case 11:
      return { command: PolicyTemplate, values: { templateHash: g.digest(session.alg) } };
    case 12: {
      const object = g.object();
      const objectName = object.symbol === '' ? choose.bytes(34) : outputOf(object.symbol, 'name');
      return {
        command: PolicyDuplicationSelect,
        values: { objectName, newParentName: none, includeObject: choose.below(2) },
        random: true,
      };
    }
    case 13:
      return choose.once(3)
        ? { command: PolicyPhysicalPresence, values: {} }
        : {
            command: PolicyOR,
            values: {
              pHashList: [g.digest(session.alg), session.isTrial ? g.digest(session.alg) : Buffer.alloc(g.digest(session.alg).length)],
            },
          };
    default: {
      const authHandle = choose.of(model.owner, model.endorsement, model.lockout, model.platform, ...model.objects, ...model.nv.values());
      const random = authHandle instanceof LoadedObject && authHandle.facts?.external !== true;
      return { command: PolicySecret, values: { authHandle, ...terms(g, session), ...(choose.once(2) && { nonceTPM: none }) }, random };
    }
  }
}

function* doElement(g: StepMaker, session: SessionModel, one: PolicyElement): Plan {
  const { ok } = yield g.command(one.command, { ...one.values, policySession: handleOf(session.symbol) }, { exact: g.choose.once(2) });
  if (ok) session.elements.push(one);
}

function* digestOf(g: StepMaker, session: SessionModel): Plan {
  const deterministic = !session.elements.some(({ random }) => random === true);
  const symbol = g.symbol('digest');
  const { ok, out } = yield g.command(
    PolicyGetDigest,
    { policySession: handleOf(session.symbol) },
    { deterministic, save: { symbol }, plain: true, exact: true },
  );
  if (!ok || session.elements.length === 0) return;
  const digest = deterministic ? Buffer.from(out['policyDigest'] as Buffer) : outputOf<Buffer>(symbol, 'policyDigest');
  g.model.policies.push({ alg: session.alg, elements: [...session.elements], digest });
}

/** A few elements in a new session, and its digest: a policy for later. */
function* make(g: StepMaker): Plan {
  const { choose, model } = g;
  yield* startSession(g, { sessionType: choose.of(TPM_SE.POLICY, TPM_SE.TRIAL, TPM_SE.TRIAL) });
  const session = model.newest;
  if (session?.isPolicy !== true) return;
  for (let i = choose.of(1, 1, 2, 3, 5); i > 0; i--) yield* doElement(g, session, element(g, session));
  if (choose.once(5)) yield* signed(g, session);
  yield* digestOf(g, session);
}

/** One more element in an old session. */
function* more(g: StepMaker): Plan {
  const sessions = g.model.sessions.filter(({ isPolicy, saved }) => isPolicy && saved === undefined);
  if (sessions.length === 0) return;
  const session = g.choose.of(...sessions);
  yield* doElement(g, session, element(g, session));
  if (g.choose.once(2)) yield* digestOf(g, session);
}

/** The public part of a key from outside, loaded. */
function externalKey(symbol: string, template: TPMT_PUBLIC): LoadedObject {
  return LoadedObject.transient(symbol, none, { template, hierarchy: TPM_RH.OWNER, external: true, knownSecret: false, hasPrivate: false });
}

/** PolicySigned by a key from outside, and its ticket in another session. */
function* signed(g: StepMaker, session: SessionModel): Plan {
  const { choose } = g;
  yield* makeRoom(g);
  const signer = policySigner(g);
  const symbol = g.symbol('signer');
  const loaded = yield g.command(
    LoadExternal,
    { inPrivate: null, inPublic: signer.publicArea, hierarchy: TPM_RH.OWNER },
    { save: { symbol }, plain: true, exact: true },
  );
  if (!loaded.ok || signer.sign === undefined) return;
  const key = externalKey(symbol, signer.publicArea);
  g.model.loaded.push(key);
  const expiration = choose.of(0, 0, -10000);
  const policyRef = choose.of(none, Buffer.from('ref'));
  const aHash = Buffer.alloc(4);
  aHash.writeInt32BE(expiration);
  const auth = signer.sign(choose.once(12) ? Buffer.from('other') : Buffer.concat([aHash, policyRef]));
  const values = { nonceTPM: none, cpHashA: none, policyRef, expiration, auth };
  const ticket = g.symbol('ticket');
  const policySession = handleOf(session.symbol);
  const { ok } = yield g.command(
    PolicySigned,
    { authObject: key, policySession, ...values },
    { save: { symbol: ticket }, exact: true, plain: true },
  );
  if (!ok) return;
  session.elements.push({ command: PolicySigned, values: { authObject: key, ...values } });
  if (expiration === 0 && !choose.once(8)) return;
  const terms = {
    timeout: outputOf(ticket, 'timeout'),
    cpHashA: none,
    policyRef: choose.once(10) ? none : policyRef,
    authName: nameOfPublic(signer.publicArea),
    ticket: outputOf(ticket, 'policyTicket'),
  };
  yield g.command(PolicyTicket, { policySession, ...terms }, { exact: true });
}

/** PolicyAuthorize of whatever a session has now. */
function* authorize(g: StepMaker): Plan {
  const { choose, model } = g;
  const sessions = model.sessions.filter(
    ({ isPolicy, saved, elements }) => isPolicy && saved === undefined && !elements.some(({ random }) => random === true),
  );
  if (sessions.length === 0) return;
  const session = choose.of(...sessions);
  yield* makeRoom(g);
  const signer = policySigner(g);
  const symbol = g.symbol('authority');
  const loaded = yield g.command(
    LoadExternal,
    { inPrivate: null, inPublic: signer.publicArea, hierarchy: TPM_RH.OWNER },
    { save: { symbol }, plain: true, exact: true },
  );
  if (!loaded.ok || signer.sign === undefined) return;
  const key = externalKey(symbol, signer.publicArea);
  g.model.loaded.push(key);
  const policySession = handleOf(session.symbol);
  const { ok, out } = yield g.command(PolicyGetDigest, { policySession }, { deterministic: true, plain: true, exact: true });
  if (!ok) return;
  const approvedPolicy = Buffer.from(out['policyDigest'] as Buffer);
  const policyRef = choose.of(none, Buffer.from('ref'));
  const aHash = Buffer.concat([approvedPolicy, policyRef]);
  const verified = g.symbol('approved');
  const checked = yield g.command(
    VerifySignature,
    { keyHandle: handleOf(symbol), digest: hash(TPM_ALG.SHA256, aHash), signature: signer.sign(aHash) },
    { save: { symbol: verified }, plain: true, exact: true },
  );
  const checkTicket = checked.ok ? outputOf(verified, 'validation') : { tag: TPM_ST.VERIFIED, hierarchy: TPM_RH.NULL, digest: none };
  const values = { approvedPolicy, policyRef, keySign: nameOfPublic(signer.publicArea), checkTicket };
  const done = yield g.command(PolicyAuthorize, { policySession, ...values });
  if (done.ok) session.elements = [{ command: PolicyAuthorize, values }];
  yield* digestOf(g, session);
}

/** PolicyAuthorizeNV of whatever a session has now: its digest is written to an index first. */
function* authorizeNv(g: StepMaker): Plan {
  const { choose, model } = g;
  const sessions = model.sessions.filter(
    ({ isPolicy, saved, elements }) => isPolicy && saved === undefined && !elements.some(({ random }) => random === true),
  );
  if (sessions.length === 0) return;
  const session = choose.of(...sessions);
  const policySession = handleOf(session.symbol);
  const { ok, out } = yield g.command(PolicyGetDigest, { policySession }, { deterministic: true, plain: true, exact: true });
  if (!ok) return;
  const data = encode(TPMT_HA, { hashAlg: choose.once(12) ? g.hash() : session.alg, digest: Buffer.from(out['policyDigest'] as Buffer) });
  const nvIndex = 0x01500040 + choose.below(4);
  const attributes = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | TPMA_NV.AUTHREAD | TPMA_NV.NO_DA;
  const publicInfo = { nvIndex, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: none, dataSize: 66 };
  if (!model.nv.has(nvIndex)) {
    const defined = yield g.command(NV_DefineSpace, { authHandle: model.owner, auth: none, publicInfo }, { exact: true, plain: true });
    if (!defined.ok) return;
    model.nv.set(nvIndex, new NvIndex(publicInfo, none));
  }
  const index = model.nv.get(nvIndex);
  if (index === undefined) return;
  const written = yield g.command(NV_Write, { authHandle: model.owner, nvIndex: index, data, offset: 0 }, { exact: true, plain: true });
  index.isWritten ||= written.ok;
  const values = { authHandle: choose.of(index, model.owner), nvIndex: index };
  if ((yield g.command(PolicyAuthorizeNV, { ...values, policySession })).ok) session.elements = [{ command: PolicyAuthorizeNV, values }];
  yield* digestOf(g, session);
}

/** Fulfils the policy of an entity and uses it. */
function* fulfil(g: StepMaker): Plan {
  const { choose, model } = g;
  const entities = [...model.objects, ...model.nv.values()].filter(({ policy }) => policy !== undefined);
  if (entities.length === 0) return;
  const entity = choose.of(...entities);
  const { policy } = entity;
  if (policy === undefined) return;
  yield* startSession(g, { sessionType: TPM_SE.POLICY, authHash: choose.once(20) ? g.hash() : policy.alg });
  const session = model.newest;
  if (session?.isPolicy !== true || session.isTrial) return;
  for (const one of policy.elements) {
    if (!model.has(one.values)) continue;
    const { ok } = yield g.command(one.command, { ...one.values, policySession: handleOf(session.symbol) }, { exact: true, plain: true });
    if (ok) session.elements.push(one);
  }
  const options = { policy: session };
  if (entity instanceof NvIndex) {
    const size = entity.publicArea.dataSize;
    if (choose.once(3))
      yield g.command(NV_Write, { authHandle: entity, nvIndex: entity, data: choose.bytes(Math.min(size, 1024)), offset: 0 }, options);
    else if (choose.once(4))
      yield g.command(NV_ChangeAuth, { nvIndex: entity, newAuth: entity.auth }, { ...options, newAuth: entity.auth });
    else yield g.command(NV_Read, { authHandle: entity, nvIndex: entity, size, offset: 0 }, options);
    return;
  }
  const scheme = { scheme: TPM_ALG.NULL, details: null };
  const wanted = policy.elements.find(({ command }) => command === PolicyCommandCode)?.values['code'];
  const parentHandle = g.object();
  switch (choose.once(5) ? choose.of(...codes) : wanted) {
    case TPM_CC.Certify:
      yield g.command(Certify, { objectHandle: entity, signHandle: model.null, qualifyingData: none, inScheme: scheme }, options);
      break;
    case TPM_CC.ObjectChangeAuth:
      yield g.command(ObjectChangeAuth, { objectHandle: entity, parentHandle, newAuth: none }, options);
      break;
    case TPM_CC.Duplicate:
      yield g.command(
        Duplicate,
        {
          objectHandle: entity,
          newParentHandle: TPM_RH.NULL,
          encryptionKeyIn: none,
          symmetricAlg: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
        } satisfies Record<keyof Request<typeof Duplicate>, unknown>,
        options,
      );
      break;
    case TPM_CC.ReadClock:
      yield g.command(ReadClock, {});
      break;
    case TPM_CC.Sign:
      yield g.command(Sign, { keyHandle: entity, digest: choose.bytes(32), inScheme: scheme, validation: noTicket }, options);
      break;
    default:
      if (choose.once(2)) yield g.command(Unseal, { itemHandle: entity }, options);
      else yield g.command(Sign, { keyHandle: entity, digest: choose.bytes(32), inScheme: scheme, validation: noTicket }, options);
  }
}

export const policyPlans: readonly WeightedPlan[] = [
  [9, make],
  [8, more],
  [3, authorize],
  [2, authorizeNv],
  [10, fulfil],
];
