// Part 3, 10, 16.2, 29 and 30: self-tests, capabilities and the clock.
import {
  ClockRateAdjust,
  ClockSet,
  GetCapability,
  GetTestResult,
  IncrementalSelfTest,
  ReadClock,
  SelfTest,
  StirRandom,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_CLOCK_ADJUST, TPM_PT } from '../../../src/tpm/constants/index.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';

function* capability(g: StepMaker): Plan {
  const { choose } = g;
  const property = choose.of<number>(
    0,
    choose.of(...Object.values(TPM_PT)),
    choose.of(...Object.values(TPM_ALG)),
    choose.of(0x01000000, 0x02000000, 0x03000000, 0x40000000, 0x80000000, 0x81000000, 0x90000000, 0x80000001),
    choose.below(0x200),
  );
  const first = choose.of(...Object.values(TPM_CAP));
  const suited = first === TPM_CAP.TPM_PROPERTIES && choose.once(2) ? choose.of(TPM_PT.VAR, TPM_PT.FIXED) : property;
  const isHandles = first === TPM_CAP.HANDLES && !choose.once(8);
  const from = isHandles ? choose.of(0, 0x01000000, 0x02000000, 0x03000000, 0x40000000, 0x80000000, 0x81000000) : suited;
  yield g.command(GetCapability, { capability: first, property: from, propertyCount: choose.of(0, 1, 2, 100, 1000) });
}

/** A time that neither clock has reached, nor will. */
function nextHour(g: StepMaker): bigint {
  g.model.hours++;
  return BigInt(g.model.hours) * 3_600_000n;
}

function* clock(g: StepMaker): Plan {
  const { choose } = g;
  switch (choose.below(4)) {
    case 0:
      yield g.command(ClockSet, { auth: g.provision(), newTime: choose.of(0n, nextHour(g), nextHour(g), 0xffff_ffff_ffff_ffffn) });
      break;
    case 1:
      yield g.command(ClockRateAdjust, { auth: g.provision(), rateAdjust: choose.of(...Object.values(TPM_CLOCK_ADJUST)) });
      break;
    default:
      yield g.command(ReadClock, {});
  }
}

function* selfTest(g: StepMaker): Plan {
  const { choose } = g;
  switch (choose.below(6)) {
    case 0:
      yield g.command(SelfTest, { fullTest: choose.below(2) });
      break;
    case 1:
      yield g.command(IncrementalSelfTest, { toTest: choose.of<number[]>([], [TPM_ALG.SHA256], [TPM_ALG.AES, TPM_ALG.RSA], [0x7fff]) });
      break;
    case 2:
      yield g.command(GetTestResult, {});
      break;
    default:
      yield g.command(StirRandom, { inData: choose.bytes(choose.of(0, 1, 128)) });
  }
}

export const capabilityPlans: readonly WeightedPlan[] = [
  [8, capability],
  [4, clock],
  [3, selfTest],
];
