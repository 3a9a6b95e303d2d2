// Part 3, 15 and 17: ciphers, hashes, HMACs and sequences.
import {
  EncryptDecrypt,
  EncryptDecrypt2,
  EventSequenceComplete,
  Hash,
  HashSequenceStart,
  HMAC,
  HMAC_Start,
  SequenceComplete,
  SequenceUpdate,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { none } from '../../support/frames.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import { Entity, LoadedObject } from '../model.js';
import { makeRoom } from './object.js';
import { hasAttributes } from './templates.js';

const hierarchies = [TPM_RH.OWNER, TPM_RH.NULL, TPM_RH.NULL, TPM_RH.ENDORSEMENT, TPM_RH.PLATFORM] as const;

function* encrypt(g: StepMaker): Plan {
  const { choose } = g;
  const keyHandle = g.object(
    (object) => object.facts?.template.type === TPM_ALG.SYMCIPHER && (choose.once(10) || hasAttributes(object, 0, TPMA_OBJECT.restricted)),
  );
  const template = keyHandle.facts?.template;
  const own = template?.type === TPM_ALG.SYMCIPHER ? (template.parameters.sym.mode ?? TPM_ALG.NULL) : TPM_ALG.CFB;
  const mode = choose.once(3)
    ? choose.of(TPM_ALG.NULL, TPM_ALG.CFB, TPM_ALG.CBC, TPM_ALG.CTR, TPM_ALG.ECB, TPM_ALG.OFB)
    : own === TPM_ALG.CMAC
      ? TPM_ALG.CFB
      : own;
  const isSmall = template?.type === TPM_ALG.SYMCIPHER && template.parameters.sym.algorithm === TPM_ALG.TDES;
  const block = isSmall ? 8 : 16;
  const ivIn = mode === TPM_ALG.ECB || choose.once(15) ? none : choose.bytes(choose.once(20) ? block - 1 : block);
  const inData = choose.bytes(choose.of(0, 1, 16, 32, 32, 48, 33, 100, choose.once(4) ? 1024 : 64));
  const values = { keyHandle, inData, decrypt: choose.below(2), mode, ivIn };
  yield g.command(choose.of(EncryptDecrypt, EncryptDecrypt2), values, { deterministic: keyHandle.facts?.knownSecret === true });
}

function* hash(g: StepMaker): Plan {
  const { choose } = g;
  const data = choose.once(4) ? Buffer.concat([Buffer.from('ff544347', 'hex'), choose.bytes(5)]) : choose.bytes(choose.of(0, 1, 64, 300));
  yield g.command(Hash, { data, hashAlg: g.hash(), hierarchy: choose.of(...hierarchies) });
}

function macKey(g: StepMaker): LoadedObject {
  const { choose } = g;
  const isMac = (object: LoadedObject): boolean =>
    hasAttributes(object, TPMA_OBJECT.sign, choose.once(10) ? 0 : TPMA_OBJECT.restricted) &&
    object.facts?.template.type === TPM_ALG.KEYEDHASH;
  return choose.once(8) ? g.object(({ facts }) => facts?.template.type === TPM_ALG.SYMCIPHER) : g.object(isMac);
}

function macAlg(g: StepMaker, key: LoadedObject): number {
  if (key.facts?.template.type === TPM_ALG.SYMCIPHER && !g.choose.once(4)) return TPM_ALG.CMAC;
  const template = key.facts?.template;
  const own = template?.type === TPM_ALG.KEYEDHASH && template.parameters.scheme.details?.hashAlg;
  const any = g.choose.of<number>(TPM_ALG.SHA256, g.hash());
  return own && !g.choose.once(8) ? g.choose.of(TPM_ALG.NULL, own) : g.choose.once(8) ? TPM_ALG.NULL : any;
}

function* hmac(g: StepMaker): Plan {
  const handle = macKey(g);
  const values = { handle, buffer: g.choose.bytes(g.choose.of(0, 1, 15, 16, 64, 200)), hashAlg: macAlg(g, handle) };
  yield g.command(HMAC, values, { deterministic: handle.facts?.knownSecret === true });
}

function* startSequence(g: StepMaker): Plan {
  const { model, choose } = g;
  yield* makeRoom(g);
  const symbol = g.symbol('sequence');
  const auth = g.auth();
  if (choose.once(2)) {
    const handle = macKey(g);
    const { ok } = yield g.command(HMAC_Start, { handle, auth, hashAlg: macAlg(g, handle) }, { save: { symbol } });
    if (ok) model.loaded.push(LoadedObject.transient(symbol, auth, undefined, handle.facts?.knownSecret === true ? 'hash' : 'hmac'));
    return;
  }
  const hashAlg = choose.once(3) ? TPM_ALG.NULL : g.hash();
  const { ok } = yield g.command(HashSequenceStart, { auth, hashAlg }, { save: { symbol } });
  if (ok) model.loaded.push(LoadedObject.transient(symbol, auth, undefined, hashAlg === TPM_ALG.NULL ? 'event' : 'hash'));
}

function sequenceOf(g: StepMaker): LoadedObject {
  return g.object(({ sequence }) => sequence !== undefined);
}

function* update(g: StepMaker): Plan {
  const { choose } = g;
  const start = choose.once(8) ? Buffer.from('ff544347', 'hex') : none;
  yield g.command(SequenceUpdate, {
    sequenceHandle: sequenceOf(g),
    buffer: Buffer.concat([start, choose.bytes(choose.of(0, 1, 3, 16, 64, 500))]),
  });
}

function* complete(g: StepMaker): Plan {
  const { model, choose } = g;
  const sequenceHandle = sequenceOf(g);
  const buffer = choose.bytes(choose.of(0, 0, 5, 16, 70));
  const asEvent = choose.once(8) ? sequenceHandle.sequence !== 'event' : sequenceHandle.sequence === 'event';
  const pcr = choose.of<number>(0, 16, 23, 16, TPM_RH.NULL);
  const { ok } = asEvent
    ? yield g.command(EventSequenceComplete, { pcrHandle: model.pcrAuth.get(pcr) ?? new Entity(pcr), sequenceHandle, buffer })
    : yield g.command(SequenceComplete, { sequenceHandle, buffer, hierarchy: choose.of(...hierarchies) }, { deterministic: false });
  if (ok) model.forget(sequenceHandle);
}

export const symmetricPlans: readonly WeightedPlan[] = [
  [8, encrypt],
  [4, hash],
  [6, hmac],
  [7, startSequence],
  [7, update],
  [5, complete],
];
