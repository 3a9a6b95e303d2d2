// Part 3, 12 and 24.1: objects.
import {
  ActivateCredential,
  Create,
  CreateLoaded,
  CreatePrimary,
  EvictControl,
  FlushContext,
  Load,
  LoadExternal,
  MakeCredential,
  ObjectChangeAuth,
  ReadPublic,
  Unseal,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { digestSize } from '../../../src/tpm/hash.js';
import { encode } from '../../../src/tpm/schema.js';
import { TPMT_PUBLIC } from '../../../src/tpm/structures/index.js';
import { none } from '../../support/frames.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import { type Entity, LoadedObject, type ObjectFacts, type Policy } from '../model.js';
import { derived, outputOf, Symbolic } from '../symbols.js';
import { signerOf } from './external-keys.js';
import { anyKind, dataFor, factsOf, hasAttributes, isAsymmetric, isParent, type KeyKind, templateOf } from './templates.js';

const SLOTS = 3;

/** Frees a slot, mostly: where there is none the TPMs are to say so. */
export function* makeRoom(g: StepMaker, slots = 1): Plan {
  const { model, choose } = g;
  // libtpms loads persistent objects into slots while it uses them.
  const reserve = model.persistent.length > 0 ? 1 : 0;
  while (model.loaded.length > SLOTS - slots - reserve && !choose.once(60)) {
    const object = choose.of(...model.loaded);
    const { ok } = yield g.command(FlushContext, { flushHandle: object.handle }, { exact: true });
    if (!ok) return;
    model.forget(object);
  }
}

/** A policy of the right kind for a new object, sometimes. */
function choosePolicy(g: StepMaker, alg: number): Policy | undefined {
  const fitting = g.model.policies.filter((policy) => policy.alg === alg);
  return fitting.length > 0 && g.choose.once(3) ? g.choose.of(...fitting) : undefined;
}

interface NewObject {
  readonly facts: ObjectFacts;
  readonly auth: Buffer;
  readonly policy: Policy | undefined;
  /** The parameters of CreatePrimary and Create. */
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly publicArea: Readonly<Record<string, unknown>>;
}

function newObject(g: StepMaker, kind: KeyKind, hierarchy: number): NewObject {
  const { choose } = g;
  const template = templateOf(g, kind);
  const [auth, data, policy] = [g.auth(), dataFor(g, template), choosePolicy(g, template.nameAlg)];
  const publicArea = { ...template, authPolicy: policy === undefined ? (choose.once(40) ? g.digest() : none) : policy.digest };
  const outsideInfo = choose.once(3) ? choose.bytes(choose.below(40)) : none;
  const creationPCR = choose.once(3) ? g.pcrSelection() : [];
  const parameters = { inSensitive: { userAuth: auth, data }, inPublic: publicArea, outsideInfo, creationPCR };
  return { facts: factsOf(template, hierarchy, data), auth, policy, parameters, publicArea };
}

/** A new primary key, of any kind unless one is given. */
export function* createPrimary(g: StepMaker, kind?: KeyKind): Plan {
  const { model, choose } = g;
  yield* makeRoom(g);
  const hierarchy = g.hierarchy();
  const made = newObject(g, kind ?? (choose.once(2) ? 'parent' : anyKind(g)), hierarchy.handle as number);
  const symbol = g.symbol('primary');
  const { ok } = yield g.command(CreatePrimary, { primaryHandle: hierarchy, ...made.parameters }, { save: { symbol } });
  if (!ok) return;
  const object = LoadedObject.transient(symbol, made.auth, made.facts, undefined, made.policy);
  object.creation = symbol;
  model.loaded.push(object);
}

function* create(g: StepMaker): Plan {
  const { model } = g;
  const parent = g.object(isParent);
  // libtpms makes the new object in a slot.
  yield* makeRoom(g);
  const made = newObject(g, anyKind(g), parent.facts?.hierarchy ?? TPM_RH.OWNER);
  const symbol = g.symbol('created');
  const { ok } = yield g.command(Create, { parentHandle: parent, ...made.parameters }, { save: { symbol } });
  if (!ok) return;
  model.stored.push({
    privateOf: outputOf(symbol, 'outPrivate'),
    publicOf: outputOf(symbol, 'outPublic'),
    parent,
    auth: made.auth,
    facts: made.facts,
    policy: made.policy,
    creation: symbol,
  });
  if (!g.choose.once(4)) yield* load(g, true);
}

const corrupted = (blob: Symbolic<Buffer>): Symbolic<Buffer> =>
  derived(blob, 'corrupt', (bytes) => Buffer.concat([bytes.subarray(0, -1), Buffer.of((bytes.at(-1) ?? 0) ^ 1)]));

function* load(g: StepMaker, newest = false): Plan {
  const { model, choose } = g;
  const { stored } = model;
  const key = newest ? stored.at(-1) : stored.length > 0 ? choose.of(...stored) : undefined;
  if (key === undefined) return;
  yield* makeRoom(g);
  const symbol = g.symbol('loaded');
  const isBad = choose.once(25);
  const parentHandle = choose.once(30) ? g.object(isParent) : key.parent;
  const values = { parentHandle, inPrivate: isBad ? corrupted(key.privateOf) : key.privateOf, inPublic: key.publicOf };
  const { ok } = yield g.command(Load, values, { save: { symbol }, exact: true });
  if (!ok) return;
  const object = LoadedObject.transient(symbol, key.auth, key.facts, undefined, key.policy);
  object.parent = key.parent;
  object.creation = key.creation;
  model.loaded.push(object);
}

function* createLoaded(g: StepMaker): Plan {
  const { model, choose } = g;
  yield* makeRoom(g);
  const symbol = g.symbol('made');
  const derivation = (object: LoadedObject): boolean =>
    hasAttributes(object, TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt) && object.facts?.template.type === TPM_ALG.KEYEDHASH;
  const wantsDerived = model.objects.some(derivation) && choose.once(2);
  const parent = wantsDerived ? g.object(derivation) : choose.once(2) ? g.hierarchy() : g.object(isParent);
  const hierarchy = parent instanceof LoadedObject ? (parent.facts?.hierarchy ?? TPM_RH.OWNER) : (parent.handle as number);
  const made = newObject(g, wantsDerived ? choose.of('eccSign', 'hmac', 'cipher', 'eccDecrypt') : anyKind(g), hierarchy);
  const data = wantsDerived ? choose.of(none, derivationData(g)) : (made.parameters['inSensitive'] as { data: Buffer }).data;
  const inPublic = new Symbolic('template', (symbols) => {
    const authPolicy =
      made.policy === undefined || Buffer.isBuffer(made.policy.digest) ? (made.policy?.digest ?? none) : made.policy.digest.of(symbols);
    const publicArea = { ...made.facts.template, authPolicy: authPolicy as Buffer };
    if (wantsDerived) publicArea.objectAttributes &= ~TPMA_OBJECT.sensitiveDataOrigin;
    const encoded = encode(TPMT_PUBLIC, publicArea);
    if (!wantsDerived) return encoded;
    const unique = publicArea.type === TPM_ALG.ECC ? 4 : 2;
    return Buffer.concat([encoded.subarray(0, encoded.length - unique), derivationData(g, made.auth)]);
  });
  const values = { parentHandle: parent, inSensitive: { userAuth: made.auth, data }, inPublic };
  const { ok } = yield g.command(CreateLoaded, values, { save: { symbol }, exact: true });
  if (ok) model.loaded.push(LoadedObject.transient(symbol, made.auth, { ...made.facts, knownSecret: false }, undefined, made.policy));
}

/** A TPMS_DERIVE. */
function derivationData(g: StepMaker, seed?: Buffer): Buffer {
  const text = seed ?? g.choose.bytes(g.choose.of(4, 8));
  const size = Buffer.of(0, Math.min(text.length, 32));
  return Buffer.concat([size, text.subarray(0, 32), Buffer.from('0003616263', 'hex')]);
}

function* loadExternal(g: StepMaker): Plan {
  const { model, choose } = g;
  yield* makeRoom(g);
  const { publicArea, inPrivate } = signerOf(g);
  const auth = inPrivate?.authValue ?? none;
  const symbol = g.symbol('external');
  const hierarchy =
    inPrivate === null || choose.once(15) ? choose.of(TPM_RH.OWNER, TPM_RH.NULL, TPM_RH.PLATFORM, TPM_RH.ENDORSEMENT) : TPM_RH.NULL;
  const attributes = publicArea.objectAttributes ^ (choose.once(20) ? choose.of(...Object.values(TPMA_OBJECT)) : 0);
  const template = { ...publicArea, objectAttributes: attributes >>> 0 };
  const values = { inPrivate, inPublic: template, hierarchy };
  const { ok } = yield g.command(LoadExternal, values, { save: { symbol }, deterministic: true });
  const facts = { template, hierarchy, external: true, knownSecret: true, hasPrivate: inPrivate !== null };
  if (ok) model.loaded.push(LoadedObject.transient(symbol, auth, facts));
}

function* readPublic(g: StepMaker): Plan {
  const objectHandle = g.object();
  yield g.command(ReadPublic, { objectHandle }, { deterministic: objectHandle.facts?.external === true });
}

function* unseal(g: StepMaker): Plan {
  const itemHandle = g.object(
    ({ facts }) => facts?.template.type === TPM_ALG.KEYEDHASH && (facts.template.objectAttributes & 0x60000) === 0,
  );
  yield g.command(Unseal, { itemHandle });
}

function* changeAuth(g: StepMaker): Plan {
  const { model, choose } = g;
  const candidates = model.loaded.filter(({ facts }) => facts?.external === false);
  if (candidates.length === 0) return;
  const object = choose.of(...candidates);
  const parentHandle = object.parent !== undefined && model.objects.includes(object.parent) ? object.parent : g.object(isParent);
  const [newAuth, symbol] = [g.auth(), g.symbol('reauthorized')];
  const { ok } = yield g.command(
    ObjectChangeAuth,
    { objectHandle: object, parentHandle, newAuth },
    { save: { symbol, inherit: object.symbol } },
  );
  if (!ok || object.facts === undefined) return;
  const publicOf = outputOf<TPMT_PUBLIC>(object.symbol, 'outPublic');
  model.stored.push({
    privateOf: outputOf(symbol, 'outPrivate'),
    publicOf,
    parent: parentHandle,
    auth: newAuth,
    facts: object.facts,
    policy: object.policy,
  });
}

/** MakeCredential, then ActivateCredential where the key is of this TPM. */
function* credential(g: StepMaker): Plan {
  const { choose } = g;
  const key = g.object((object) => isParent(object) && isAsymmetric(object));
  const object = g.object(({ facts }) => facts !== undefined);
  if (object.symbol === '') return;
  const symbol = g.symbol('credential');
  const size = digestSize(key.facts?.template.nameAlg ?? TPM_ALG.SHA256) + (choose.once(20) ? 1 : 0);
  const objectName = choose.once(30) ? choose.bytes(34) : outputOf<Buffer>(object.symbol, 'name');
  const values = { handle: key, credential: choose.bytes(choose.of(0, 16, size)), objectName };
  const made = yield g.command(MakeCredential, values, { save: { symbol } });
  if (!made.ok) return;
  const blob = outputOf<Buffer>(symbol, 'credentialBlob');
  const credentialBlob = choose.once(15) ? corrupted(blob) : blob;
  yield g.command(ActivateCredential, { activateHandle: object, keyHandle: key, credentialBlob, secret: outputOf(symbol, 'secret') });
}

function* evict(g: StepMaker): Plan {
  const { model, choose } = g;
  if (choose.once(2) && model.persistent.length > 0) {
    const object = choose.of(...model.persistent);
    const persistentHandle = choose.once(15) ? 0x81000005 : object.handle;
    const auth = choose.once(15) ? g.provision() : ownerOf(g, object);
    const { ok } = yield g.command(EvictControl, { auth, objectHandle: object, persistentHandle });
    if (ok) model.forget(object);
    return;
  }
  const object = g.object(({ facts }) => facts?.external === false && facts.hierarchy !== TPM_RH.NULL);
  const byPlatform = (ownerOf(g, object) === model.platform) !== choose.once(15);
  yield* persist(g, object, (byPlatform ? 0x81800000 : 0x81000000) + choose.below(4), byPlatform);
}

/** Who may make the object persistent. */
function ownerOf({ model }: StepMaker, { facts }: LoadedObject): Entity {
  return facts?.hierarchy === TPM_RH.PLATFORM ? model.platform : model.owner;
}

function* persist(g: StepMaker, object: LoadedObject, persistentHandle: number, byPlatform = false): Plan {
  const { model } = g;
  const symbol = g.symbol('persistent');
  const save = { symbol, inherit: object.symbol, handle: persistentHandle };
  const auth = byPlatform ? model.platform : model.owner;
  const { ok } = yield g.command(EvictControl, { auth, objectHandle: object, persistentHandle }, object.symbol === '' ? {} : { save });
  if (ok) model.persistent.push(new LoadedObject(symbol, persistentHandle, object.auth, object.facts, undefined, object.policy));
}

function* flush(g: StepMaker): Plan {
  const object = g.object(({ handle }) => typeof handle !== 'number');
  const { ok } = yield g.command(FlushContext, { flushHandle: object.handle });
  if (ok) g.model.forget(object);
}

/** A sequence begins with a storage key of the owner that stays, mostly. */
export function* openingObjects(g: StepMaker): Plan {
  if (g.choose.once(6)) return;
  yield* createPrimary(g, 'parent');
  const [made] = g.model.loaded;
  if (made === undefined || g.choose.once(4)) return;
  yield* persist(g, made, 0x81000000);
  yield* flush(g);
}

export const objectPlans: readonly WeightedPlan[] = [
  [6, createPrimary],
  [14, create],
  [8, load],
  [6, createLoaded],
  [8, loadExternal],
  [4, readPublic],
  [4, unseal],
  [4, changeAuth],
  [4, credential],
  [4, evict],
  [3, flush],
];
