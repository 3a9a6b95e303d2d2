// Part 3, 9: shutdown, loss of power and start-up, in and out of order.
import { Shutdown, Startup } from '../../../src/tpm/commands/index.js';
import { TPM_SU } from '../../../src/tpm/constants/index.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';

function* cycle(g: StepMaker): Plan {
  const { choose } = g;
  const shutdownType = choose.of(undefined, TPM_SU.CLEAR, TPM_SU.STATE, TPM_SU.STATE);
  if (shutdownType !== undefined) yield g.command(Shutdown, { shutdownType }, { exact: true, locality: 0 });
  yield { kind: 'power' };
  // A refused Startup(STATE) after no shutdown makes libtpms forget that dictionary-attack protection was in use.
  const startupType = shutdownType === undefined ? TPM_SU.CLEAR : choose.of(TPM_SU.CLEAR, TPM_SU.STATE);
  const { ok } = yield g.command(Startup, { startupType }, { exact: true, locality: choose.once(10) ? choose.below(5) : 0 });
  if (!ok) yield g.command(Startup, { startupType: TPM_SU.CLEAR }, { exact: true, locality: 0 });
}

function* outOfOrder(g: StepMaker): Plan {
  const { choose } = g;
  if (choose.once(2)) yield g.command(Startup, { startupType: choose.of(TPM_SU.CLEAR, TPM_SU.STATE) });
  else yield g.command(Shutdown, { shutdownType: choose.of(TPM_SU.CLEAR, TPM_SU.STATE) });
}

export const powerPlans: readonly WeightedPlan[] = [
  [4, cycle],
  [1, outOfOrder],
];
