// Part 3, 21 and 24 to 26: hierarchies, dictionary attacks, command audit, management.
import {
  ChangeEPS,
  ChangePPS,
  Clear,
  ClearControl,
  DictionaryAttackLockReset,
  DictionaryAttackParameters,
  HierarchyChangeAuth,
  HierarchyControl,
  PP_Commands,
  SetAlgorithmSet,
  SetCommandCodeAuditStatus,
  SetPrimaryPolicy,
} from '../../../src/tpm/commands/index.js';
import { HASH_ALGORITHMS, TPM_ALG, TPM_CC, TPM_RH } from '../../../src/tpm/constants/index.js';
import { digestSize } from '../../../src/tpm/hash.js';
import { none } from '../../support/frames.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';

function* changeAuth(g: StepMaker): Plan {
  const { model, choose } = g;
  const authHandle = choose.of(model.owner, model.endorsement, model.platform, model.lockout);
  const newAuth = choose.once(2) ? none : g.auth();
  const { ok } = yield g.command(HierarchyChangeAuth, { authHandle, newAuth }, { newAuth, exact: choose.once(2) });
  if (ok) authHandle.auth = newAuth;
}

function* control(g: StepMaker): Plan {
  const { model, choose } = g;
  const authHandle = choose.of(model.platform, model.platform, model.owner, model.endorsement);
  const enable = choose.of(TPM_RH.OWNER, TPM_RH.ENDORSEMENT, TPM_RH.PLATFORM_NV, choose.once(6) ? TPM_RH.PLATFORM : TPM_RH.OWNER);
  const state = choose.of(0, 1, 1);
  const { ok } = yield g.command(HierarchyControl, { authHandle, enable, state });
  if (ok && state === 0) model.hierarchyGone(enable, false);
  if (!ok || choose.once(4)) return;
  yield g.command(HierarchyControl, { authHandle: model.platform, enable, state: 1 });
}

function* setPolicy(g: StepMaker): Plan {
  const { model, choose } = g;
  const hashAlg = choose.of<number>(TPM_ALG.NULL, ...HASH_ALGORITHMS);
  const authPolicy = choose.bytes((hashAlg === TPM_ALG.NULL ? 0 : digestSize(hashAlg)) + (choose.once(10) ? 1 : 0));
  yield g.command(SetPrimaryPolicy, {
    authHandle: choose.of(model.owner, model.endorsement, model.platform, model.lockout),
    authPolicy,
    hashAlg,
  });
}

function* clear(g: StepMaker): Plan {
  const { model, choose } = g;
  const authHandle = choose.of(model.platform, model.lockout);
  switch (choose.below(6)) {
    case 0: {
      if (model.isAllocationPending) return;
      const { ok } = yield g.command(Clear, { authHandle });
      if (!ok) return;
      for (const entity of [model.owner, model.endorsement, model.lockout]) entity.auth = none;
      model.countsFailures = true;
      for (const hierarchy of [TPM_RH.OWNER, TPM_RH.ENDORSEMENT]) model.hierarchyGone(hierarchy, true);
      break;
    }
    case 1:
      if ((yield g.command(ChangeEPS, { authHandle: model.platform })).ok) model.hierarchyGone(TPM_RH.ENDORSEMENT, true);
      break;
    case 2:
      if ((yield g.command(ChangePPS, { authHandle: model.platform })).ok) model.hierarchyGone(TPM_RH.PLATFORM, true);
      break;
    default:
      yield g.command(ClearControl, { auth: authHandle, disable: choose.of(0, 0, 1) });
  }
}

function* dictionaryAttack(g: StepMaker): Plan {
  const { model, choose } = g;
  if (choose.once(2)) {
    yield g.command(DictionaryAttackLockReset, { lockHandle: model.lockout });
    return;
  }
  // No time that can pass while a sequence runs.
  const values = {
    newMaxTries: choose.of(0, 3, 32, 1000),
    newRecoveryTime: choose.of(0, 5000, 100000),
    lockoutRecovery: choose.of(0, 5000),
  };
  const { ok } = yield g.command(DictionaryAttackParameters, { lockHandle: model.lockout, ...values });
  if (ok) model.countsFailures = values.newMaxTries > 0 && values.newRecoveryTime > 0;
}

const codes = [
  TPM_CC.GetRandom,
  TPM_CC.NV_Read,
  TPM_CC.ReadClock,
  TPM_CC.PCR_Read,
  TPM_CC.Sign,
  TPM_CC.Clear,
  TPM_CC.Shutdown,
  0x1ff,
  TPM_CC.FieldUpgradeStart,
];

function* audit(g: StepMaker): Plan {
  const { choose } = g;
  const list = (): number[] => Array.from({ length: choose.of(0, 0, 1, 2, 3) }, () => choose.of(...codes));
  const auditAlg = choose.of<number>(TPM_ALG.NULL, TPM_ALG.NULL, ...HASH_ALGORITHMS);
  const [setList, clearList] = auditAlg === TPM_ALG.NULL || choose.once(8) ? [list(), list()] : [[], []];
  yield g.command(SetCommandCodeAuditStatus, { auth: g.provision(), auditAlg, setList, clearList });
}

function* manage(g: StepMaker): Plan {
  const { choose, model } = g;
  if (choose.once(2)) yield g.command(SetAlgorithmSet, { authHandle: model.platform, algorithmSet: choose.of(0, 1, 1000) });
  else yield g.command(PP_Commands, { auth: model.platform, setList: [choose.of(TPM_CC.Clear, TPM_CC.ClockSet)], clearList: [] });
}

export const hierarchyPlans: readonly WeightedPlan[] = [
  [3, changeAuth],
  [2, control],
  [2, setPolicy],
  [1, clear],
  [5, dictionaryAttack],
  [2, audit],
  [1, manage],
];
