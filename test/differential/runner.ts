// Runs sequences: each on a fresh pair of TPMs, until its number of commands is reached or the TPMs differ.
import { TPM_RC } from '../../src/tpm/response-code.js';
import { type Difference, showDifference } from './comparison.js';
import type { Coverage } from './coverage.js';
import { NothingFits, type Outcome, type Plan, StepMaker } from './generator.js';
import { Pair, type StepResult } from './pair.js';
import { choosePlan, opening } from './plans/index.js';
import { showStep, type Step } from './step.js';

/** A sequence in which the TPMs came to differ, at its last step. */
export interface Failure {
  readonly seed: number;
  readonly steps: readonly Step[];
  readonly differences: readonly Difference[];
  readonly inside: string | undefined;
}

/** What a sequence needs to know. */
export interface SequenceOptions {
  readonly seed: number;
  readonly commands: number;
  readonly coverage: Coverage;
}

/** Runs the sequence of a seed; undefined if the TPMs do not differ. */
export async function runSequence({ seed, commands, coverage }: SequenceOptions): Promise<Failure | undefined> {
  const g = new StepMaker(seed);
  const steps: Step[] = [];
  const end = coverage.commands + commands;
  const pair = await Pair.start();
  try {
    let plan: Plan = opening(g);
    while (coverage.commands < end) {
      const failure = await runPlan(pair, g, plan, steps, coverage);
      if (failure === 'apart') return undefined;
      if (failure !== undefined) return { seed, steps, ...failure };
      plan = choosePlan(g);
    }
    return undefined;
  } catch (error) {
    throw new Error(`--seed ${seed.toString()} --length ${commands.toString()}, step ${steps.length.toString()}`, { cause: error });
  } finally {
    await pair.stop();
  }
}

type Fault = Pick<Failure, 'differences' | 'inside'>;

/** `apart`: an explained difference has left the TPMs in different states. */
type PlanResult = Fault | 'apart' | undefined;

async function runPlan(pair: Pair, g: StepMaker, plan: Plan, steps: Step[], coverage: Coverage): Promise<PlanResult> {
  let next = resume(plan);
  while (next.done !== true) {
    const step = next.value;
    steps.push(step);
    const result = await pair.execute(step);
    coverage.note(step, result);
    const fault = faultOf(result);
    if (fault !== undefined) return fault;
    const code = result.ours?.code ?? TPM_RC.SUCCESS;
    if (areApart(result)) return 'apart';
    // A step that was left out, or whose response makes no sense to the caller, is no success.
    const ok = code === TPM_RC.SUCCESS && (step.kind === 'power' || result.ours?.out !== undefined);
    const outcome: Outcome = { ok, code, out: result.ours?.out ?? {} };
    g.after(step, outcome);
    next = resume(plan, outcome);
  }
  return undefined;
}

/**
 * The TPMs are in different states: one has done the command and the other has not, or has not even looked at the authorization for want of
 * a slot; or swtpm is in failure mode or gone.
 */
function areApart({ ours, theirs }: StepResult): boolean {
  if (ours === undefined) return false;
  const code = theirs?.code;
  if (code === undefined || code === TPM_RC.FAILURE) return true;
  return ours.code !== code && (ours.code === TPM_RC.SUCCESS || code === TPM_RC.SUCCESS || code === TPM_RC.OBJECT_MEMORY);
}

/** The plan's next step. A plan for which there is no object ends. */
function resume(plan: Plan, ...outcome: [] | [Outcome]): IteratorResult<Step, void> {
  try {
    return plan.next(...outcome);
  } catch (error) {
    if (error instanceof NothingFits) return { done: true, value: undefined };
    throw error;
  }
}

function faultOf({ differences, inside }: StepResult): Fault | undefined {
  return differences.length > 0 || inside !== undefined ? { differences, inside } : undefined;
}

/** Does the steps again on a fresh pair, up to the first difference. */
export async function replay(seed: number, steps: readonly Step[]): Promise<Failure | undefined> {
  const pair = await Pair.start();
  try {
    for (const [i, step] of steps.entries()) {
      const result = await pair.execute(step);
      const fault = faultOf(result);
      if (fault !== undefined) return { seed, steps: steps.slice(0, i + 1), ...fault };
      if (areApart(result)) return undefined;
    }
    return undefined;
  } finally {
    await pair.stop();
  }
}

/** What kind of failure it is: the same for two sequences that show the same difference. */
export function signatureOf({ steps, differences, inside }: Failure): string {
  const last = steps.at(-1);
  const name = last === undefined || last.kind === 'power' ? 'power' : last.command.name;
  const first = differences[0];
  const detail = first === undefined ? (inside ?? '').split('\n')[0] : first.path === 'code' ? showDifference(first) : first.path;
  return `${name}: ${detail ?? ''}`;
}

/** A failure for people. */
export function showFailure(failure: Failure, commands: number): string {
  const { seed, steps, differences, inside } = failure;
  return [
    `the TPMs differ; --seed ${seed.toString()} --length ${commands.toString()}:`,
    ...steps.map((step, i) => `  ${(i + 1).toString().padStart(3)} ${showStep(step)}`),
    ...differences.slice(0, 8).map((difference) => `  => ${showDifference(difference)}`),
    ...(inside === undefined ? [] : [`  inside: ${inside}`]),
  ].join('\n');
}
