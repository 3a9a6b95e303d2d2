// Part 3, 9: shutdown, loss of power and start-up, in and out of order.
import { DictionaryAttackLockReset, PCR_Event, ReadClock, Shutdown, Startup } from '../../../src/tpm/commands/index.js';
import { TPM_SU } from '../../../src/tpm/constants/index.js';
import type { Outcome, Plan, StepMaker, WeightedPlan } from '../generator.js';
import type { Step } from '../step.js';

/** Ends the session of power in order, or not. Whether TPM2_Startup(STATE) is possible. */
function* end(g: StepMaker): Generator<Step, boolean, Outcome> {
  const { choose, model } = g;
  if (choose.once(4)) {
    // libtpms forgets that dictionary-attack protection was in use if it cannot count it: see `forgotten failures` in explained.ts.
    const { ok } = yield g.command(DictionaryAttackLockReset, { lockHandle: model.lockout }, { exact: true, plain: true });
    if (ok && model.countsFailures) return false;
  }
  if (choose.once(2) && (yield g.command(Shutdown, { shutdownType: TPM_SU.STATE }, { exact: true, locality: 0 })).ok) return true;
  yield g.command(Shutdown, { shutdownType: TPM_SU.CLEAR }, { exact: true, locality: 0 });
  return false;
}

function* cycle(g: StepMaker): Plan {
  const { choose, model } = g;
  const isSaved = yield* end(g);
  yield { kind: 'power' };
  // Saved sessions end in a reset.
  if (!isSaved) model.sessions = [];
  const startupType = isSaved ? choose.of(TPM_SU.CLEAR, TPM_SU.STATE, TPM_SU.STATE) : TPM_SU.CLEAR;
  const { ok } = yield g.command(Startup, { startupType }, { exact: true, locality: choose.once(10) ? choose.below(5) : 0 });
  if (!ok) yield g.command(Startup, { startupType: TPM_SU.CLEAR }, { exact: true, locality: 0 });
}

function* outOfOrder(g: StepMaker): Plan {
  const { choose } = g;
  if (choose.once(2)) {
    yield g.command(Startup, { startupType: choose.of(TPM_SU.CLEAR, TPM_SU.STATE) });
    return;
  }
  yield g.command(Shutdown, { shutdownType: choose.of(TPM_SU.CLEAR, TPM_SU.STATE) });
  yield g.command(ReadClock, {});
  // Makes the shutdown void: libtpms would forget locks that are set after it.
  yield g.command(PCR_Event, { pcrHandle: 0, eventData: choose.bytes(4) }, { exact: true, plain: true, locality: 0 });
}

export const powerPlans: readonly WeightedPlan[] = [
  [4, cycle],
  [1, outOfOrder],
];
