// Part 3, 28: contexts.
import { ContextLoad, ContextSave, FlushContext } from '../../../src/tpm/commands/index.js';
import type { TPMS_CONTEXT } from '../../../src/tpm/structures/index.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import { LoadedObject } from '../model.js';
import { derived, handleOf, outputOf } from '../symbols.js';
import { makeRoom } from './object.js';

function* saveObject(g: StepMaker): Plan {
  const { model, choose } = g;
  const object = g.object(({ handle }) => typeof handle !== 'number');
  const context = g.symbol('context');
  const { ok } = yield g.command(ContextSave, { saveHandle: object }, { save: { symbol: context } });
  if (!ok) return;
  model.savedObjects.push({ context, of: object });
  if (choose.once(2)) return;
  const flushed = yield g.command(FlushContext, { flushHandle: object.handle });
  if (flushed.ok) model.forget(object);
}

const corrupted = (context: TPMS_CONTEXT): TPMS_CONTEXT => {
  const contextBlob = Buffer.from(context.contextBlob);
  contextBlob[contextBlob.length - 1] = (contextBlob.at(-1) ?? 0) ^ 1;
  return { ...context, contextBlob };
};

function* loadObject(g: StepMaker): Plan {
  const { model, choose } = g;
  if (model.savedObjects.length === 0) return;
  const { context: saved, of: object } = choose.of(...model.savedObjects);
  yield* makeRoom(g);
  const symbol = g.symbol('reloaded');
  const context = outputOf<TPMS_CONTEXT>(saved, 'context');
  const change = choose.below(60);
  const hierarchy = choose.of(0x40000001, 0x4000000b, 0x4000000c, 0x40000007);
  const bad =
    change === 0
      ? derived(context, 'corrupt', corrupted)
      : change === 1
        ? derived(context, 'later', (value) => ({ ...value, sequence: value.sequence + 1n }))
        : change === 2
          ? derived(context, 'asOwner', (value) => ({ ...value, hierarchy }))
          : context;
  const save = { symbol, ...(object.symbol !== '' && { inherit: object.symbol }) };
  const { ok } = yield g.command(ContextLoad, { context: bad }, { save });
  if (ok) model.loaded.push(LoadedObject.transient(symbol, object.auth, object.facts, object.sequence, object.policy));
}

function* saveSession(g: StepMaker): Plan {
  const { model, choose } = g;
  const loaded = model.sessions.filter(({ saved }) => saved === undefined);
  if (loaded.length === 0) return;
  const session = choose.of(...loaded);
  const context = g.symbol('sessionContext');
  const { ok } = yield g.command(ContextSave, { saveHandle: handleOf(session.symbol) }, { save: { symbol: context } });
  if (ok) session.saved = context;
}

function* loadSession(g: StepMaker): Plan {
  const { model, choose } = g;
  const saved = model.sessions.filter((session) => session.saved !== undefined);
  if (saved.length === 0) return;
  const session = choose.of(...saved);
  if (session.saved === undefined) return;
  const context = outputOf<TPMS_CONTEXT>(session.saved, 'context');
  const { ok } = yield g.command(ContextLoad, { context: choose.once(30) ? derived(context, 'corrupt', corrupted) : context });
  if (ok) session.saved = undefined;
}

export const contextPlans: readonly WeightedPlan[] = [
  [6, saveObject],
  [6, loadObject],
  [4, saveSession],
  [5, loadSession],
];
