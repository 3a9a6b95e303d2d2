// Part 3, 22: PCRs.
import {
  PCR_Allocate,
  PCR_Event,
  PCR_Extend,
  PCR_Read,
  PCR_Reset,
  PCR_SetAuthPolicy,
  PCR_SetAuthValue,
} from '../../../src/tpm/commands/index.js';
import { HASH_ALGORITHMS, TPM_ALG, TPM_RH } from '../../../src/tpm/constants/index.js';
import { digestSize } from '../../../src/tpm/hash.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import { Entity } from '../model.js';

function pcr(g: StepMaker): Entity {
  const { choose, model } = g;
  const handle = choose.of(0, 7, 16, 16, 17, 20, 21, 22, 23, choose.below(24), choose.once(20) ? 24 : 16);
  return model.pcrAuth.get(handle) ?? new Entity(handle);
}

function* extend(g: StepMaker): Plan {
  const { choose } = g;
  const digests = Array.from({ length: choose.of(0, 1, 1, 1, 2, 4) }, () => {
    const hashAlg = g.hash();
    return { hashAlg, digest: choose.bytes(digestSize(hashAlg)) };
  });
  yield g.command(PCR_Extend, { pcrHandle: choose.once(20) ? new Entity(TPM_RH.NULL) : pcr(g), digests }, { locality: choose.below(5) });
}

function* event(g: StepMaker): Plan {
  yield g.command(
    PCR_Event,
    { pcrHandle: pcr(g), eventData: g.choose.bytes(g.choose.of(0, 1, 64, 1024)) },
    { locality: g.choose.below(5) },
  );
}

function* read(g: StepMaker): Plan {
  yield g.command(PCR_Read, { pcrSelectionIn: g.pcrSelection() });
}

function* reset(g: StepMaker): Plan {
  yield g.command(PCR_Reset, { pcrHandle: pcr(g) }, { locality: g.choose.below(5) });
}

function* setAuth(g: StepMaker): Plan {
  const { model } = g;
  const auth = g.auth();
  const handle = g.choose.of(20, 21, 22);
  const pcrHandle = g.choose.once(8) ? pcr(g) : (model.pcrAuth.get(handle) ?? new Entity(handle));
  const { ok } = yield g.command(PCR_SetAuthValue, { pcrHandle, auth }, { newAuth: auth });
  if (!ok) return;
  for (let i = 0; i < 24; i++) if (i === pcrHandle.handle || (i >= 20 && i <= 22)) model.pcrAuth.set(i, new Entity(i, auth));
}

function* setPolicy(g: StepMaker): Plan {
  const { model, choose } = g;
  const hashAlg = choose.of<number>(TPM_ALG.NULL, ...HASH_ALGORITHMS);
  const size = hashAlg === TPM_ALG.NULL ? 0 : digestSize(hashAlg);
  yield g.command(PCR_SetAuthPolicy, {
    authHandle: model.platform,
    authPolicy: choose.bytes(size + (choose.once(10) ? 1 : 0)),
    hashAlg,
    pcrNum: choose.of(16, 20, 20, 21, 22, 23),
  });
}

function* allocate(g: StepMaker): Plan {
  const { choose } = g;
  const all = Buffer.from('ffffff', 'hex');
  const banks = HASH_ALGORITHMS.filter(() => !choose.once(4)).map((hash) => ({
    hash,
    pcrSelect: choose.of(all, all, all, Buffer.alloc(3)),
  }));
  const { ok } = yield g.command(PCR_Allocate, { authHandle: g.model.platform, pcrAllocation: choose.once(5) ? g.pcrSelection() : banks });
  if (ok) g.model.isAllocationPending = true;
}

export const pcrPlans: readonly WeightedPlan[] = [
  [5, extend],
  [3, event],
  [5, read],
  [3, reset],
  [1, setAuth],
  [1, setPolicy],
  [1, allocate],
];
