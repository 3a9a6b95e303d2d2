// A vTPM with software keys and a fresh swtpm, and one step on both.
import { startDifferential, type Differential } from '../support/differential.js';
import { PeerClosed } from '../support/exchange.js';
import { compare, type Difference } from './comparison.js';
import { explain, type Explanation } from './explained.js';
import { rulesOf } from './rules.js';
import { type Answer, Side } from './side.js';
import { showStep, type Step } from './step.js';
import { MissingSymbol } from './symbols.js';

/** As many objects and sessions as libtpms has. */
const limits = { loadedObjects: 3, loadedSessions: 3, activeSessions: 64 };

/** What came of one step on both TPMs. */
export interface StepResult {
  readonly ours: Answer | undefined;
  /** Undefined beside an answer of ours: swtpm has crashed. */
  readonly theirs: Answer | undefined;
  /** Differences without an explanation. */
  readonly differences: readonly Difference[];
  readonly explained: readonly Explanation[];
  /** What went wrong inside of ours. */
  readonly inside: string | undefined;
}

const nothing: StepResult = { ours: undefined, theirs: undefined, differences: [], explained: [], inside: undefined };

/** See the file's head. Stop it at the end. */
export class Pair {
  private readonly tpms: Differential;
  private readonly ours: Side;
  private readonly theirs: Side;

  private constructor(tpms: Differential) {
    this.tpms = tpms;
    this.ours = new Side(tpms.ours.execute);
    this.theirs = new Side(tpms.theirs.execute);
  }

  /** Both are powered on and TPM2_Startup(CLEAR) is done. */
  static async start(): Promise<Pair> {
    return new Pair(await startDifferential({ limits }));
  }

  /** Does the step on both. A step that refers to what was never made is left out. */
  async execute(step: Step): Promise<StepResult> {
    if (step.kind === 'power') {
      await this.tpms.powerCycle();
      return nothing;
    }
    const failures = this.tpms.ours.failures.length;
    let [ours, theirs]: (Answer | undefined)[] = [];
    try {
      ours = await this.ours.execute(step);
      theirs = await this.theirs.execute(step);
    } catch (error) {
      if (error instanceof MissingSymbol && ours === undefined) return nothing;
      // See `crashes` in explained.ts.
      if (error instanceof PeerClosed && ours !== undefined) return { ...nothing, ours, inside: this.insideSince(failures) };
      throw new Error(showStep(step), { cause: error });
    }
    const all = compare(step, ours, theirs, rulesOf(step.command.name));
    const explained = all.map((difference) => explain(difference, step, ours, theirs));
    return {
      ours,
      theirs,
      differences: all.filter((_, i) => explained[i] === undefined),
      explained: explained.filter((explanation) => explanation !== undefined),
      inside: this.insideSince(failures),
    };
  }

  async stop(): Promise<void> {
    await this.tpms.stop();
  }

  private insideSince(count: number): string | undefined {
    const failure = this.tpms.ours.failures[count];
    if (failure === undefined) return undefined;
    const { what, error } = failure;
    return `${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
  }
}
