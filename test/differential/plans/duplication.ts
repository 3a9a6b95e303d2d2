// Part 3, 13: duplication.
import {
  Create,
  Duplicate,
  Import,
  Load,
  PolicyCommandCode,
  PolicyGetDigest,
  PolicyAuthValue,
  Rewrap,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_RH, TPM_SE, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { none } from '../../support/frames.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import { LoadedObject, type PolicyElement } from '../model.js';
import { handleOf, outputOf } from '../symbols.js';
import { makeRoom } from './object.js';
import { startSession } from './session.js';
import { anyKind, dataFor, factsOf, isAsymmetric, isParent, templateOf } from './templates.js';

const noCipher = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const aes = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB } as const;
const fixed = TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent;
const elements: readonly PolicyElement[] = [{ command: PolicyCommandCode, values: { code: TPM_CC.Duplicate } }];

/** A policy session that allows Duplicate, with its digest. */
function* duplicationSession(g: StepMaker, alg: 4 | 11 | 12 | 13): Plan {
  yield* startSession(g, { sessionType: TPM_SE.POLICY, authHash: alg });
  const session = g.model.newest;
  if (session?.isPolicy !== true) return;
  for (const { command, values } of elements) {
    yield g.command(command, { ...values, policySession: handleOf(session.symbol) }, { exact: true, plain: true });
  }
  if (g.choose.once(4)) yield g.command(PolicyAuthValue, { policySession: handleOf(session.symbol) }, { exact: true, plain: true });
  session.elements = [...elements];
}

/** Creates a duplicable key, duplicates it to another parent or to none, imports it and loads it. */
function* roundTrip(g: StepMaker): Plan {
  const { choose, model } = g;
  const parent = g.object(isParent);
  const newParent = choose.once(3) ? undefined : g.object((object) => isParent(object) && isAsymmetric(object));
  const plain = templateOf(g, anyKind(g));
  const nameAlg = plain.nameAlg === TPM_ALG.NULL ? TPM_ALG.SHA256 : plain.nameAlg;
  const template = {
    ...plain,
    nameAlg,
    objectAttributes: choose.once(20) ? plain.objectAttributes : (plain.objectAttributes & ~fixed) >>> 0,
  };
  yield* duplicationSession(g, nameAlg);
  const session = model.newest;
  if (session?.isPolicy !== true) return;
  const digest = yield g.command(
    PolicyGetDigest,
    { policySession: handleOf(session.symbol) },
    { exact: true, plain: true, deterministic: true },
  );
  if (!digest.ok) return;
  const authPolicy = Buffer.from(digest.out['policyDigest'] as Buffer);
  const [auth, data, created, loaded, duplicate] = [
    g.auth(),
    dataFor(g, template),
    g.symbol('created'),
    g.symbol('loaded'),
    g.symbol('duplicate'),
  ];
  const inPublic = { ...template, authPolicy };
  const made = yield g.command(
    Create,
    { parentHandle: parent, inSensitive: { userAuth: auth, data }, inPublic, outsideInfo: none, creationPCR: [] },
    { save: { symbol: created }, exact: true },
  );
  if (!made.ok) return;
  yield* makeRoom(g);
  const publicOf = outputOf(created, 'outPublic');
  const load = { parentHandle: parent, inPrivate: outputOf(created, 'outPrivate'), inPublic: publicOf };
  if (!(yield g.command(Load, load, { save: { symbol: loaded }, exact: true })).ok) return;
  const facts = factsOf(inPublic, parent.facts?.hierarchy ?? TPM_RH.OWNER, data);
  const object = LoadedObject.transient(loaded, auth, facts);
  model.loaded.push(object);
  const symmetricAlg = choose.once(2) ? noCipher : aes;
  const encryptionKeyIn = symmetricAlg === aes && choose.once(2) ? choose.bytes(choose.once(10) ? 15 : 16) : none;
  const values = { objectHandle: object, newParentHandle: newParent ?? TPM_RH.NULL, encryptionKeyIn, symmetricAlg };
  if (!(yield g.command(Duplicate, values, { save: { symbol: duplicate }, policy: session })).ok) return;
  const encryptionKey = encryptionKeyIn.length > 0 || symmetricAlg === noCipher ? encryptionKeyIn : outputOf(duplicate, 'encryptionKeyOut');
  let [blob, inSymSeed] = [outputOf(duplicate, 'duplicate'), outputOf(duplicate, 'outSymSeed')];
  const importer = newParent ?? parent;
  if (choose.once(4)) {
    const rewrapped = g.symbol('rewrapped');
    const other = g.object((candidate) => isParent(candidate) && isAsymmetric(candidate));
    const toOther = { oldParent: newParent ?? model.null, newParent: other, inDuplicate: blob, name: outputOf(loaded, 'name'), inSymSeed };
    if ((yield g.command(Rewrap, toOther, { save: { symbol: rewrapped } })).ok && choose.once(2)) {
      [blob, inSymSeed] = [outputOf(rewrapped, 'outDuplicate'), outputOf(rewrapped, 'outSymSeed')];
    }
  }
  const imported = g.symbol('imported');
  const parentHandle = choose.once(10) ? g.object(isParent) : importer;
  const arrival = { parentHandle, encryptionKey, objectPublic: publicOf, duplicate: blob, inSymSeed, symmetricAlg };
  if (!(yield g.command(Import, arrival, { save: { symbol: imported } })).ok) return;
  model.stored.push({
    privateOf: outputOf(imported, 'outPrivate'),
    publicOf: outputOf(created, 'outPublic'),
    parent: parentHandle,
    auth,
    facts,
    policy: undefined,
  });
}

export const duplicationPlans: readonly WeightedPlan[] = [[7, roundTrip]];
