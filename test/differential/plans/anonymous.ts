// Part 3, 19.2 and 20.2: Commit and what follows from it.
import { ECDH } from 'node:crypto';
import { Commit, Sign } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_ST } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import type { TPMS_ECC_POINT, TPMT_PUBLIC } from '../../../src/tpm/structures/index.js';
import { none } from '../../support/frames.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import type { LoadedObject } from '../model.js';
import { derived, outputOf } from '../symbols.js';
import { isEcc } from './asymmetric.js';
import { createPrimary } from './object.js';

const empty: TPMS_ECC_POINT = { x: none, y: none };
const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;

type EccPublic = Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.ECC }>;

function templateOf({ facts }: LoadedObject): EccPublic | undefined {
  return facts?.template.type === TPM_ALG.ECC ? facts.template : undefined;
}

const isAnonymous = (object: LoadedObject): boolean => templateOf(object)?.parameters.scheme.scheme === TPM_ALG.ECDAA;

/** s2 and y2 of a point on P-256 whose x coordinate is the hash of s2. */
function basePoint(g: StepMaker): { s2: Buffer; y2: Buffer } {
  for (;;) {
    const s2 = g.choose.bytes(8);
    const compressed = Buffer.concat([Buffer.of(g.choose.of(2, 3)), hash(TPM_ALG.SHA256, s2)]);
    try {
      const point = ECDH.convertKey(compressed, 'prime256v1', undefined, undefined, 'uncompressed') as Buffer;
      return { s2, y2: Buffer.from(point.subarray(33)) };
    } catch {
      // Half of all numbers are no x coordinate.
    }
  }
}

/** The second point: that on P-256 in half of the cases, none, or one that is not on the curve. */
function secondPoint(g: StepMaker): { s2: Buffer; y2: Buffer } {
  const { choose } = g;
  if (choose.once(2)) return basePoint(g);
  return choose.once(12) ? { s2: choose.bytes(8), y2: choose.bytes(choose.of(0, 32)) } : { s2: none, y2: none };
}

function* commit(g: StepMaker): Plan {
  const { choose, model } = g;
  if (!model.objects.some(isAnonymous)) yield* createPrimary(g, 'daa');
  const signHandle = g.object(choose.once(20) ? isEcc : isAnonymous);
  const template = templateOf(signHandle);
  const isOwn = signHandle.symbol !== '' && template !== undefined && signHandle.facts?.external === false;
  const publicOf = outputOf<EccPublic>(signHandle.symbol, 'outPublic');
  const P1 = isOwn && choose.once(2) ? derived(publicOf, 'point', ({ unique }) => unique) : empty;
  const isP256 = template?.parameters.curveID === TPM_ECC_CURVE.NIST_P256;
  const second = isP256 || choose.once(8) ? secondPoint(g) : { s2: none, y2: none };
  const symbol = g.symbol('commit');
  const { ok } = yield g.command(Commit, { signHandle, P1, ...second }, { save: { symbol } });
  if (!ok) return;
  const own = template?.parameters.scheme;
  const hashAlg = own?.scheme === TPM_ALG.ECDAA ? own.details.hashAlg : TPM_ALG.SHA256;
  const count = choose.once(6) ? 7 : outputOf(symbol, 'counter');
  const inScheme = { scheme: TPM_ALG.ECDAA, details: { hashAlg, count } };
  const size = { 4: 20, 11: 32, 12: 48, 13: 64 }[hashAlg];
  const values = { keyHandle: signHandle, digest: choose.bytes(size), inScheme, validation: noTicket };
  yield g.command(Sign, values);
  // A counter counts once.
  if (choose.once(3)) yield g.command(Sign, values);
}

export const anonymousPlans: readonly WeightedPlan[] = [[4, commit]];
