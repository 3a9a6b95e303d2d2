// TPM 2.0 Library Part 3, 19: ephemeral EC keys.
import { findCurve, getCurve } from '../../../crypto/ecc-curves.js';
import { isOnCurve, multiply, multiplyBase } from '../../../crypto/ecc.js';
import { mod, toBigInt, toBytes } from '../../../crypto/big-integer.js';
import type { Commit, EC_Ephemeral } from '../../../tpm/commands/index.js';
import { TPM_ALG } from '../../../tpm/constants/index.js';
import { hash } from '../../../tpm/hash.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import type { TPMS_ECC_POINT } from '../../../tpm/structures/index.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';
import { privatePartOf } from '../../state/objects.js';

const noPoint: TPMS_ECC_POINT = { x: Buffer.alloc(0), y: Buffer.alloc(0) };

/**
 * 19.2: with `P2 = (H(s2) mod p, y2)` and the ephemeral key `r`: `K = [d]P2` and `L = [r]P2` if there is a P2; `E = [r]P1`, or `[r]G` if
 * there is neither P1 nor P2.
 */
const commit: Handler<typeof Commit> = async (tpm, { P1, s2, y2 }, call) => {
  const key = call.object('signHandle', TPM_RC.KEY);
  const { publicArea } = key;
  if (publicArea.type !== TPM_ALG.ECC) throw call.error(TPM_RC.KEY, 'signHandle');
  const { scheme, curveID } = publicArea.parameters;
  if (scheme.scheme !== TPM_ALG.ECDAA) throw call.error(TPM_RC.SCHEME, 'signHandle');
  if ((s2.length === 0) !== (y2.length === 0)) throw call.error(TPM_RC.SIZE, 'y2');
  const curve = findCurve(curveID);
  if (curve === undefined) throw call.error(TPM_RC.KEY, 'signHandle');
  const x2 = s2.length === 0 ? undefined : mod(toBigInt(hash(publicArea.nameAlg, s2)), curve.p);
  const P2 = x2 === undefined ? undefined : { x: toBytes(x2, curve.bytes), y: y2 };
  if (P2 !== undefined && !isOnCurve(curve, P2)) throw call.error(TPM_RC.ECC_POINT, 's2');
  const hasP1 = P1.x.length > 0 || P1.y.length > 0;
  if (hasP1 && !isOnCurve(curve, P1)) throw call.error(TPM_RC.ECC_POINT, 'P1');
  const K = P2 === undefined ? noPoint : await privatePartOf(key).ecdhZGen(P2);
  const r = tpm.commits.upcoming(curve, key.name);
  const L = P2 === undefined ? noPoint : multiply(curve, r, P2);
  const E = hasP1 ? multiply(curve, r, P1) : P2 === undefined ? multiplyBase(curve, r) : noPoint;
  r.fill(0);
  return { K, L, E, counter: tpm.commits.commit() };
};

/** 19.3 */
const ecEphemeral: Handler<typeof EC_Ephemeral> = (tpm, { curveID }, call) => {
  const curve = call.at('curveID', () => getCurve(curveID));
  const r = tpm.commits.upcoming(curve);
  const Q = multiplyBase(curve, r);
  r.fill(0);
  return { Q, counter: tpm.commits.commit() };
};

export const ephemeralEcHandlers = { Commit: commit, EC_Ephemeral: ecEphemeral } satisfies Partial<Handlers>;
