// All plans, by chapter, and the choice among them.
import type { Plan, PlanMaker, StepMaker, WeightedPlan } from '../generator.js';
import { anonymousPlans } from './anonymous.js';
import { asymmetricPlans } from './asymmetric.js';
import { attestationPlans } from './attestation.js';
import { authorizedPlans } from './authorized.js';
import { capabilityPlans } from './capability.js';
import { contextPlans } from './context.js';
import { duplicationPlans } from './duplication.js';
import { hierarchyPlans } from './hierarchy.js';
import { malformedPlans } from './malformed.js';
import { nvPlans } from './nv.js';
import { objectPlans, openingObjects } from './object.js';
import { pcrPlans } from './pcr.js';
import { policyPlans } from './policy.js';
import { powerPlans } from './power.js';
import { sessionPlans } from './session.js';
import { symmetricPlans } from './symmetric.js';
import { x509Plans } from './x509.js';

const plans: readonly WeightedPlan[] = [
  ...sessionPlans,
  ...objectPlans,
  ...asymmetricPlans,
  ...anonymousPlans,
  ...symmetricPlans,
  ...duplicationPlans,
  ...attestationPlans,
  ...x509Plans,
  ...policyPlans,
  ...authorizedPlans,
  ...nvPlans,
  ...pcrPlans,
  ...hierarchyPlans,
  ...contextPlans,
  ...capabilityPlans,
  ...powerPlans,
  ...malformedPlans,
];
const lottery: readonly PlanMaker[] = plans.flatMap(([weight, plan]) => Array.from({ length: weight }, () => plan));

/** What every sequence begins with: something to work with. */
export function opening(g: StepMaker): Plan {
  return openingObjects(g);
}

/** One of all plans. */
export function* choosePlan(g: StepMaker): Plan {
  yield* g.choose.of(...lottery)(g);
}
