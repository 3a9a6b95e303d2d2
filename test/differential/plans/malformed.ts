// Commands of arbitrary bytes that follow the declarations, with live handles among them.
import fc from 'fast-check';
import { type Command, decodeParameters } from '../../../src/tpm/command.js';
import { arbitraryCommand } from '../../tpm/arbitrary.js';
import { commandsOfBoth } from '../coverage.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import type { CommandStep } from '../step.js';

/** These either change what a sequence relies on or draw times that run out. */
const left = new Set([
  'Startup',
  'Shutdown',
  'Clear',
  'FlushContext',
  'ClockSet',
  'DictionaryAttackParameters',
  'HierarchyChangeAuth',
  'PolicySecret',
  'PolicySigned',
  'CreatePrimary',
  'Create',
  'CreateLoaded',
  'EncryptDecrypt',
  'PCR_Allocate',
  'NV_DefineSpace',
  'ChangeEPS',
  'ChangePPS',
  'HierarchyControl',
  'SequenceComplete',
  'EventSequenceComplete',
]);
const commands = commandsOfBoth.filter(({ name }) => !left.has(name));
const arbitraries = new Map(commands.map((command) => [command.name, arbitraryCommand(command)]));

function handlesFor(g: StepMaker, command: Command): Record<string, unknown> {
  const { choose, model } = g;
  const any = [...model.objects, ...model.nv.values(), model.owner, model.platform, model.endorsement, model.lockout, model.null];
  return Object.fromEntries(
    command.handleList.map(([name, { schema }]) => {
      const { shape } = schema;
      const fits = any.filter(({ handle }) => {
        if (shape.kind !== 'integer') return false;
        const value = typeof handle === 'number' ? handle : 0x80000000;
        return shape.values?.includes(value) === true || shape.ranges?.some(([first, last]) => value >= first && value <= last) === true;
      });
      return [name, fits.length === 0 || choose.once(8) ? choose.of(...any) : choose.of(...fits)];
    }),
  );
}

function* arbitrary(g: StepMaker): Plan {
  const { choose } = g;
  const command = choose.of(...commands);
  const source = arbitraries.get(command.name);
  if (source === undefined) return;
  const [areas] = fc.sample(source, { numRuns: 1, seed: choose.below(1 << 30) });
  if (areas === undefined) return;
  let values: Record<string, unknown>;
  try {
    values = decodeParameters(command, areas.parameters);
  } catch {
    return;
  }
  const step = g.command(command, { ...values, ...handlesFor(g, command) }, { exact: true });
  yield step satisfies CommandStep;
}

export const malformedPlans: readonly WeightedPlan[] = [[10, arbitrary]];
