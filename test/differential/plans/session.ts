// Part 3, 11: sessions of every kind.
import { encapsulate } from '../../../src/crypto/secrets.js';
import { FlushContext, GetRandom, PolicyRestart, StartAuthSession } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SE, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { digestSize } from '../../../src/tpm/hash.js';
import { TpmError } from '../../../src/tpm/response-code.js';
import type { TPMT_PUBLIC, TPMT_SYM_DEF_PLUS } from '../../../src/tpm/structures/index.js';
import { none } from '../../support/frames.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import type { Entity, LoadedObject, SessionModel } from '../model.js';
import { handleOf, type SymbolTable, Symbolic } from '../symbols.js';
import { hasAttributes, isAsymmetric } from './templates.js';

const SLOTS = 3;
const ciphers: readonly TPMT_SYM_DEF_PLUS[] = [
  { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
  { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
  { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB },
  { algorithm: TPM_ALG.AES, keyBits: 256, mode: TPM_ALG.CFB },
  { algorithm: TPM_ALG.XOR, keyBits: TPM_ALG.SHA256, mode: null },
  { algorithm: TPM_ALG.CAMELLIA, keyBits: 128, mode: TPM_ALG.CFB },
  { algorithm: TPM_ALG.TDES, keyBits: 192, mode: TPM_ALG.CFB },
  { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CBC },
];

/** Frees a place for a session, mostly. */
function* makeSessionRoom(g: StepMaker): Plan {
  const { model, choose } = g;
  for (;;) {
    const loaded = model.sessions.filter(({ saved }) => saved === undefined);
    if (loaded.length < SLOTS || choose.once(30)) return;
    const session = choose.of(...loaded);
    const { ok } = yield g.command(FlushContext, { flushHandle: handleOf(session.symbol) }, { exact: true });
    if (!ok) return;
    model.sessions = model.sessions.filter((other) => other !== session);
  }
}

/** What {@link startSession} is told; chance decides the rest. */
export interface SessionWish {
  readonly sessionType?: TPM_SE;
  readonly authHash?: SessionModel['alg'];
}

/** The salt of a session: encrypted for the side's own key, and remembered under `saltKey`. */
function saltFor(key: LoadedObject, saltKey: string): Symbolic<Buffer> {
  return new Symbolic(`salt for ${key.symbol}`, (symbols: SymbolTable) => {
    const { out } = symbols.get(key.symbol);
    const publicArea = (out['outPublic'] ?? key.facts?.template) as TPMT_PUBLIC;
    try {
      const { secret, encrypted } = encapsulate(publicArea, 'SECRET');
      symbols.set(saltKey, { handle: undefined, out: { secret } });
      return encrypted;
    } catch (error) {
      // The key is too small for the padding with its hash.
      if (!(error instanceof TpmError)) throw error;
      symbols.set(saltKey, { handle: undefined, out: { secret: none } });
      return Buffer.alloc(128);
    }
  });
}

function chooseBind(g: StepMaker): Entity | undefined {
  const { choose, model } = g;
  if (!choose.once(3)) return undefined;
  const nv = [...model.nv.values()];
  return choose.of<Entity | undefined>(model.owner, model.lockout, model.platform, ...model.objects, ...nv);
}

/** Starts one: the model's `newest`, if it can be started. */
export function* startSession(g: StepMaker, wish: SessionWish = {}): Plan {
  const { model, choose } = g;
  model.newest = undefined;
  yield* makeSessionRoom(g);
  const sessionType = wish.sessionType ?? choose.of(TPM_SE.HMAC, TPM_SE.HMAC, TPM_SE.HMAC, TPM_SE.POLICY, TPM_SE.TRIAL);
  const authHash = wish.authHash ?? g.hash();
  const symmetric = choose.of(...ciphers);
  const salters = model.objects.filter(
    (object) => isAsymmetric(object) && hasAttributes(object, TPMA_OBJECT.decrypt) && object.facts?.external === false,
  );
  const salter = salters.length > 0 && choose.once(3) ? choose.of(...salters) : undefined;
  const saltKey = salter === undefined ? undefined : g.symbol('salt');
  const bind = chooseBind(g);
  const size = choose.of(16, digestSize(authHash), digestSize(authHash), choose.once(10) ? 15 : 16);
  const symbol = g.symbol(sessionType === TPM_SE.HMAC ? 'hmac' : sessionType === TPM_SE.POLICY ? 'policy' : 'trial');
  const values = {
    tpmKey: salter ?? (choose.once(50) ? g.object() : TPM_RH.NULL),
    bind: bind ?? TPM_RH.NULL,
    nonceCaller: choose.bytes(size),
    encryptedSalt: salter === undefined || saltKey === undefined ? (choose.once(50) ? choose.bytes(32) : none) : saltFor(salter, saltKey),
    sessionType,
    symmetric,
    authHash,
  };
  const start = {
    sessionType,
    authHash,
    symmetric,
    ...(saltKey !== undefined && { saltKey }),
    ...(bind !== undefined && { bindAuth: bind.auth }),
  };
  const { ok } = yield g.command(StartAuthSession, values, { save: { symbol }, start, plain: choose.once(2) });
  if (!ok) return;
  const kind = { isPolicy: sessionType !== TPM_SE.HMAC, isTrial: sessionType === TPM_SE.TRIAL };
  const canEncrypt = symmetric.algorithm !== TPM_ALG.NULL;
  model.newest = { symbol, ...kind, alg: authHash, canEncrypt, ...(bind !== undefined && { bind }), saved: undefined, elements: [] };
  model.sessions.push(model.newest);
}

function* hmacSession(g: StepMaker): Plan {
  yield* startSession(g, { sessionType: TPM_SE.HMAC });
}

function* flushSession(g: StepMaker): Plan {
  const { model, choose } = g;
  if (model.sessions.length === 0) return;
  const session = choose.of(...model.sessions);
  const { ok } = yield g.command(FlushContext, { flushHandle: handleOf(session.symbol) });
  if (ok) model.sessions = model.sessions.filter((other) => other !== session);
}

function* restart(g: StepMaker): Plan {
  const { model, choose } = g;
  if (model.sessions.length === 0) return;
  const session = choose.of(...model.sessions);
  const { ok } = yield g.command(PolicyRestart, { sessionHandle: handleOf(session.symbol) });
  if (ok) session.elements = [];
}

function* random(g: StepMaker): Plan {
  yield g.command(GetRandom, { bytesRequested: g.choose.of(0, 1, 20, 64, 65, 1000) });
}

export const sessionPlans: readonly WeightedPlan[] = [
  [12, hmacSession],
  [4, startSession],
  [3, flushSession],
  [2, restart],
  [3, random],
];
