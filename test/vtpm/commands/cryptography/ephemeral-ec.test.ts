// ECC_Parameters, Commit, EC_Ephemeral, ZGen_2Phase and ECDAA signatures, side by side with swtpm.
import assert from 'node:assert/strict';
import { mod, randomScalar, toBigInt, toBytes } from '../../../../src/crypto/big-integer.js';
import { type Curve, getCurve, SOFTWARE_CURVES } from '../../../../src/crypto/ecc-curves.js';
import { addPoints, type EccPoint, generateEccKey, isOnCurve, multiply, multiplyBase } from '../../../../src/crypto/ecc.js';
import {
  Certify,
  Commit,
  CreatePrimary,
  EC_Ephemeral,
  ECC_Parameters,
  ECDH_KeyGen,
  FlushContext,
  LoadExternal,
  Quote,
  Shutdown,
  Sign,
  Startup,
  VerifySignature,
  ZGen_2Phase,
} from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_ST, TPM_SU, TPMA_OBJECT } from '../../../../src/tpm/constants/index.js';
import { hash } from '../../../../src/tpm/hash.js';
import { atParameter, TPM_RC } from '../../../../src/tpm/response-code.js';
import type { TPMI_ECC_CURVE, TPMT_PUBLIC, TPMT_SIGNATURE_PLUS } from '../../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { expectCode, frame, none, rawFrame, run } from '../../../support/frames.js';
import { eccTemplate, hmacTemplate, type PublicOf, rsaTemplate } from '../../../support/templates.js';
import { openTestTpm } from '../../../support/vtpm.js';

const { SHA256, SHA512, ECDAA, ECDSA, ECSCHNORR, ECDH, ECMQV, SM2, NULL } = TPM_ALG;
const FIRST = 0x80000000;
const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
const nullScheme = { scheme: NULL, details: null } as const;

type Ecc = PublicOf<typeof TPM_ALG.ECC>;
const signing = TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign;
const decrypting = TPMA_OBJECT.userWithAuth | TPMA_OBJECT.decrypt;
const template = (curveID: TPMI_ECC_CURVE, objectAttributes: number, scheme: Ecc['parameters']['scheme']): Ecc => {
  const base = eccTemplate(curveID);
  return { ...base, objectAttributes, parameters: { ...base.parameters, scheme } };
};
const anonymous = (curveID: TPMI_ECC_CURVE): Ecc => template(curveID, signing, { scheme: ECDAA, details: { hashAlg: SHA256, count: 0 } });

/** A point whose x coordinate is a hash: what Commit takes as `s2` and `y2`. Only where p is 3 modulo 4. */
function hashedPoint(curve: Curve): { s2: Buffer; y2: Buffer; point: EccPoint } {
  const { p, a, b } = curve;
  for (let i = 0; ; i++) {
    const s2 = Buffer.from(`basename ${i.toString()}`);
    const x = mod(toBigInt(hash(SHA256, s2)), p);
    let y = 1n;
    let base = mod((x * x + a) * x + b, p);
    for (let e = (p + 1n) / 4n; e > 0n; e >>= 1n) {
      if ((e & 1n) === 1n) y = (y * base) % p;
      base = (base * base) % p;
    }
    const point = { x: toBytes(x, curve.bytes), y: toBytes(y, curve.bytes) };
    if (isOnCurve(curve, point)) return { s2, y2: point.y, point };
  }
}

describe('ephemeral EC keys', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });
  const executes = (): Differential['ours']['execute'][] => [both.ours.execute, both.theirs.execute];
  afterEach(async () => {
    for (const execute of executes()) for (const flushHandle of [FIRST, FIRST + 1]) await execute(frame(FlushContext, { flushHandle }));
  });

  /** The same key in both. */
  async function load(publicArea: Ecc): Promise<{ d: Buffer; point: EccPoint }> {
    const pair = generateEccKey(getCurve(publicArea.parameters.curveID));
    const inPublic = { ...publicArea, unique: { x: pair.point.x, y: pair.point.y } };
    const inPrivate = { sensitiveType: TPM_ALG.ECC, authValue: none, seedValue: none, sensitive: pair.d } as const;
    await both.runSame(LoadExternal, { inPrivate, inPublic, hierarchy: TPM_RH.NULL }, []);
    return pair;
  }

  it('parameters of every curve', async () => {
    for (const curveID of SOFTWARE_CURVES) await both.same(frame(ECC_Parameters, { curveID }));
    for (const hex of ['', '00', '0000', '0006', '0012', '0021', '000300'])
      await both.sameCode(rawFrame(ECC_Parameters.code, [], Buffer.from(hex, 'hex')));
  });

  it('keys on every curve sign and exchange', async () => {
    const digest = Buffer.alloc(32, 7);
    for (const curveID of SOFTWARE_CURVES) {
      await load(template(curveID, signing | TPMA_OBJECT.decrypt, nullScheme));
      for (const scheme of [ECDSA, ECSCHNORR, SM2] as const) {
        const request = { keyHandle: FIRST, digest, inScheme: { scheme, details: { hashAlg: SHA256 } }, validation: noTicket };
        const { ours, theirs } = await both.run(Sign, request);
        for (const signature of [ours.signature, theirs.signature]) {
          assert.equal(
            await both.code(VerifySignature, { keyHandle: FIRST, digest, signature }, []),
            0,
            `${curveID.toString(16)} ${scheme.toString(16)}`,
          );
        }
      }
      const { ours } = await both.run(ECDH_KeyGen, { keyHandle: FIRST }, []);
      assert.ok(isOnCurve(getCurve(curveID), ours.pubPoint));
      for (const execute of executes()) await run(execute, FlushContext, { flushHandle: FIRST });
    }
  });

  it('EC_Ephemeral counts', async () => {
    for (const curveID of SOFTWARE_CURVES) {
      const { ours, theirs } = await both.run(EC_Ephemeral, { curveID }, []);
      assert.equal(ours.counter, theirs.counter);
      assert.deepEqual([ours.Q.x.length, ours.Q.y.length], [theirs.Q.x.length, theirs.Q.y.length]);
      assert.ok(isOnCurve(getCurve(curveID), ours.Q));
    }
    await both.sameCode(rawFrame(EC_Ephemeral.code, [], Buffer.from('0009', 'hex')));
  });

  it('ZGen_2Phase with ECDH, once for each counter', async () => {
    for (const curveID of [TPM_ECC_CURVE.NIST_P256, TPM_ECC_CURVE.NIST_P521, TPM_ECC_CURVE.BN_P256]) {
      const curve = getCurve(curveID);
      const { d } = await load(template(curveID, decrypting, nullScheme));
      const [stat, eph] = [generateEccKey(curve), generateEccKey(curve)];
      const { ours: one, theirs: other } = await both.run(EC_Ephemeral, { curveID }, []);
      const { counter } = one;
      const request = { keyA: FIRST, inQsB: stat.point, inQeB: eph.point, inScheme: ECDH, counter } as const;
      await both.code(ZGen_2Phase, { ...request, inQsB: { x: stat.point.x, y: stat.point.x } });
      await both.code(ZGen_2Phase, { ...request, inQeB: { x: none, y: none } });
      await both.code(ZGen_2Phase, { ...request, counter: counter + 1 });
      await both.code(ZGen_2Phase, { ...request, counter: counter + 0x80 });
      const { ours, theirs } = await both.run(ZGen_2Phase, request);
      assert.deepEqual(ours.outZ1, theirs.outZ1);
      assert.deepEqual(ours.outZ1, multiply(curve, d, stat.point));
      assert.deepEqual(ours.outZ2, multiply(curve, eph.d, one.Q));
      assert.deepEqual(theirs.outZ2, multiply(curve, eph.d, other.Q));
      assert.equal(await both.code(ZGen_2Phase, request), atParameter(TPM_RC.VALUE, 4));
      for (const execute of executes()) await run(execute, FlushContext, { flushHandle: FIRST });
    }
  });

  it('only the last 128 counters can be used', async () => {
    const curveID = TPM_ECC_CURVE.NIST_P256;
    const curve = getCurve(curveID);
    await load(template(curveID, decrypting, nullScheme));
    const { point } = generateEccKey(curve);
    const counters: number[] = [];
    for (let i = 0; i < 130; i++) counters.push((await both.run(EC_Ephemeral, { curveID }, [])).ours.counter);
    const codes: number[] = [];
    for (const i of [0, 1, 2, 3, 129, 128]) {
      const counter = counters[i] ?? 0;
      codes.push(await both.code(ZGen_2Phase, { keyA: FIRST, inQsB: point, inQeB: point, inScheme: ECDH, counter }));
    }
    const value = atParameter(TPM_RC.VALUE, 4);
    assert.deepEqual(codes, [value, value, 0, 0, 0, 0]);
  });

  it('keys that cannot exchange', async () => {
    const curveID = TPM_ECC_CURVE.NIST_P256;
    const { point } = generateEccKey(getCurve(curveID));
    const { counter } = (await both.run(EC_Ephemeral, { curveID }, [])).ours;
    const restricted = {
      ...eccTemplate(),
      objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt,
    };
    const storage: TPMT_PUBLIC = {
      ...restricted,
      parameters: { ...restricted.parameters, symmetric: { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB } },
    };
    const origin = TPMA_OBJECT.sensitiveDataOrigin;
    for (const inPublic of [
      storage,
      rsaTemplate(),
      hmacTemplate(),
      template(curveID, signing | origin, nullScheme),
      template(curveID, decrypting | origin, { scheme: ECMQV, details: { hashAlg: SHA256 } }),
    ]) {
      const inSensitive = { userAuth: none, data: none };
      await both.run(CreatePrimary, { primaryHandle: TPM_RH.NULL, inSensitive, inPublic, outsideInfo: none, creationPCR: [] });
      for (const inScheme of [ECDH, NULL as typeof ECDH, ECDSA as unknown as typeof ECDH]) {
        await both.code(ZGen_2Phase, {
          keyA: FIRST,
          inQsB: point,
          inQeB: point,
          inScheme,
          counter: inPublic.type === TPM_ALG.ECC ? counter + 9 : counter,
        });
      }
      for (const execute of executes()) await run(execute, FlushContext, { flushHandle: FIRST });
    }
  });

  it('ECMQV and the exchange of SM2: both sides find the same point', async () => {
    const { execute } = await openTestTpm();
    for (const [curveID, inScheme, half] of [
      [TPM_ECC_CURVE.NIST_P256, ECMQV, 128n],
      [TPM_ECC_CURVE.NIST_P521, ECMQV, 261n],
      [TPM_ECC_CURVE.SM2_P256, SM2, 127n],
    ] as const) {
      const curve = getCurve(curveID);
      const [a, b, e] = [generateEccKey(curve), generateEccKey(curve), generateEccKey(curve)];
      const inPublic = { ...template(curveID, decrypting, nullScheme), unique: a.point };
      const inPrivate = { sensitiveType: TPM_ALG.ECC, authValue: none, seedValue: none, sensitive: a.d } as const;
      const { objectHandle: keyA } = await run(execute, LoadExternal, { inPrivate, inPublic, hierarchy: TPM_RH.NULL }, []);
      const { Q, counter } = await run(execute, EC_Ephemeral, { curveID }, []);
      const { outZ1, outZ2 } = await run(execute, ZGen_2Phase, { keyA, inQsB: b.point, inQeB: e.point, inScheme, counter });
      // B's side, with its scalars: it has the same formula with the roles exchanged.
      const avf = (x: Buffer): bigint => (1n << half) + (toBigInt(x) & ((1n << half) - 1n));
      const [ds, de] = [toBigInt(b.d), toBigInt(e.d)];
      const isMqv = inScheme === ECMQV;
      const t = mod(isMqv ? de + avf(e.point.x) * ds : ds + avf(e.point.x) * de, curve.n);
      const [plain, times] = isMqv ? [Q, a.point] : [a.point, Q];
      const peer = addPoints(curve, plain, multiply(curve, toBytes(avf(Q.x), curve.orderBytes), times));
      assert.ok(peer);
      assert.deepEqual(outZ1, multiply(curve, toBytes(t, curve.orderBytes), peer));
      assert.deepEqual([outZ2.x.length, outZ2.y.length], [0, 0]);
      await run(execute, FlushContext, { flushHandle: keyA });
    }
  });

  /** `[s]P2 = L + [T]K` with `T = H(nonce || digest)`. */
  function assertAnonymous(
    curve: Curve,
    P2: EccPoint,
    out: { K: EccPoint; L: EccPoint },
    digest: Buffer,
    signature: TPMT_SIGNATURE_PLUS,
  ): void {
    if (signature.sigAlg !== ECDAA) assert.fail('not an ECDAA signature');
    const { signatureR, signatureS, hash: hashAlg } = signature.signature;
    const t = toBytes(mod(toBigInt(hash(hashAlg, signatureR, digest)), curve.n), curve.orderBytes);
    assert.deepEqual(multiply(curve, signatureS, P2), addPoints(curve, out.L, multiply(curve, t, out.K)));
  }

  for (const curveID of [TPM_ECC_CURVE.NIST_P256, TPM_ECC_CURVE.BN_P256, TPM_ECC_CURVE.BN_P638]) {
    it(`Commit and ECDAA on curve 0x${curveID.toString(16)}`, async () => {
      const curve = getCurve(curveID);
      const { d } = await load(anonymous(curveID));
      const { s2, y2, point: P2 } = hashedPoint(curve);
      const P1 = generateEccKey(curve).point;
      const empty = { x: none, y: none };
      const digest = Buffer.alloc(32, 0x77);
      for (const [request, parts] of [
        [{ P1, s2, y2 }, ['K', 'L', 'E']],
        [{ P1: empty, s2, y2 }, ['K', 'L']],
        [{ P1, s2: none, y2: none }, ['E']],
        [{ P1: empty, s2: none, y2: none }, ['E']],
      ] as const) {
        const { ours, theirs } = await both.run(Commit, { signHandle: FIRST, ...request });
        assert.equal(ours.counter, theirs.counter);
        assert.deepEqual(ours.K, theirs.K);
        for (const name of ['K', 'L', 'E'] as const) {
          assert.equal(ours[name].x.length, theirs[name].x.length);
          assert.equal(ours[name].x.length > 0, (parts as readonly string[]).includes(name), name);
        }
        if (request.s2.length > 0) assert.deepEqual(ours.K, multiply(curve, d, P2));
        const inScheme = { scheme: ECDAA, details: { hashAlg: SHA256, count: ours.counter } } as const;
        const sign = { keyHandle: FIRST, digest, inScheme, validation: noTicket };
        await both.code(Sign, { ...sign, inScheme: nullScheme });
        await both.code(Sign, { ...sign, inScheme: { scheme: ECDAA, details: { hashAlg: SHA512, count: ours.counter } } });
        await both.code(Sign, { ...sign, inScheme: { scheme: ECDAA, details: { hashAlg: SHA256, count: ours.counter + 1 } } });
        const signed = await both.run(Sign, sign);
        if (request.s2.length > 0) {
          assertAnonymous(curve, P2, ours, digest, signed.ours.signature);
          assertAnonymous(curve, P2, theirs, digest, signed.theirs.signature);
        }
        assert.equal(await both.code(Sign, sign), TPM_RC.VALUE);
        await both.code(VerifySignature, { keyHandle: FIRST, digest, signature: signed.ours.signature }, []);
      }
    });
  }

  it('what Commit refuses', async () => {
    const curveID = TPM_ECC_CURVE.NIST_P256;
    const curve = getCurve(curveID);
    const { s2, y2, point } = hashedPoint(curve);
    const P1 = point;
    const offCurve = { x: point.x, y: point.x };
    const refuse = async (): Promise<void> => {
      const request = { signHandle: FIRST, P1, s2, y2 };
      await both.code(Commit, { ...request, s2: none });
      await both.code(Commit, { ...request, y2: none });
      await both.code(Commit, { ...request, y2: Buffer.alloc(32, 1) });
      await both.code(Commit, { ...request, s2: Buffer.from('no such point') });
      await both.code(Commit, { ...request, P1: offCurve });
      await both.code(Commit, { ...request, P1: { x: point.x, y: none } });
    };
    await load(anonymous(curveID));
    await refuse();
    for (const execute of executes()) await run(execute, FlushContext, { flushHandle: FIRST });
    await load(template(curveID, signing, { scheme: ECDSA, details: { hashAlg: SHA256 } }));
    await refuse();
    for (const execute of executes()) await run(execute, FlushContext, { flushHandle: FIRST });
    const inSensitive = { userAuth: none, data: none };
    await both.run(CreatePrimary, { primaryHandle: TPM_RH.NULL, inSensitive, inPublic: rsaTemplate(), outsideInfo: none, creationPCR: [] });
    await refuse();
  });

  it('anonymous attestations tell nothing of the signer', async () => {
    const curveID = TPM_ECC_CURVE.NIST_P256;
    const curve = getCurve(curveID);
    const { s2, y2, point: P2 } = hashedPoint(curve);
    await load(anonymous(curveID));
    for (const qualifyingData of [none, Buffer.from('nonce')]) {
      for (const command of [Certify, Quote]) {
        const commits = await both.run(Commit, { signHandle: FIRST, P1: { x: none, y: none }, s2, y2 });
        const inScheme = { scheme: ECDAA, details: { hashAlg: SHA256, count: commits.ours.counter } } as const;
        const request = { objectHandle: FIRST, signHandle: FIRST, qualifyingData, inScheme, PCRselect: [] };
        const made = await both.run<typeof Certify | typeof Quote>(command, request);
        for (const side of ['ours', 'theirs'] as const) {
          const out = made[side];
          const attested = 'quoted' in out ? out.quoted : out.certifyInfo;
          assert.equal(attested.subarray(6, 10).toString('hex'), '00000000', 'no signer, no extra data');
          const digest = hash(SHA256, attested);
          const bound = qualifyingData.length > 0 ? hash(SHA256, qualifyingData, digest) : digest;
          assertAnonymous(curve, P2, commits[side], bound, out.signature);
        }
        const lengths = [made.ours, made.theirs].map((out) => ('quoted' in out ? out.quoted : out.certifyInfo).length);
        assert.equal(lengths[0], lengths[1]);
      }
    }
  });

  it('commits survive Shutdown(STATE), and nothing else', async () => {
    const curveID = TPM_ECC_CURVE.NIST_P256;
    const request = { ...{ P1: { x: none, y: none }, s2: none, y2: none } };
    const inPublic = anonymous(curveID);
    const pair = generateEccKey(getCurve(curveID));
    const inPrivate = { sensitiveType: TPM_ALG.ECC, authValue: none, seedValue: none, sensitive: pair.d } as const;
    const external = { inPrivate, inPublic: { ...inPublic, unique: pair.point }, hierarchy: TPM_RH.NULL };
    for (const state of [TPM_SU.STATE, TPM_SU.CLEAR]) {
      await both.runSame(LoadExternal, external, []);
      const { ours, theirs } = await both.run(Commit, { signHandle: FIRST, ...request });
      assert.equal(ours.counter, theirs.counter);
      await both.code(Shutdown, { shutdownType: state });
      await both.powerCycle();
      await both.code(Startup, { startupType: state });
      await both.runSame(LoadExternal, external, []);
      const inScheme = { scheme: ECDAA, details: { hashAlg: SHA256, count: ours.counter } } as const;
      const code = await both.code(Sign, { keyHandle: FIRST, digest: Buffer.alloc(32), inScheme, validation: noTicket });
      assert.equal(code, state === TPM_SU.STATE ? 0 : TPM_RC.VALUE);
      for (const execute of executes()) await run(execute, FlushContext, { flushHandle: FIRST });
    }
  });

  it('a number in the place of another is refused', async () => {
    const { execute } = await openTestTpm();
    const curve = getCurve(TPM_ECC_CURVE.NIST_P256);
    const inPublic = { ...template(TPM_ECC_CURVE.NIST_P256, decrypting, nullScheme), unique: multiplyBase(curve, toBytes(5n, 32)) };
    const inPrivate = { sensitiveType: TPM_ALG.ECC, authValue: none, seedValue: none, sensitive: toBytes(5n, 32) } as const;
    const { objectHandle: keyA } = await run(execute, LoadExternal, { inPrivate, inPublic, hierarchy: TPM_RH.NULL }, []);
    const point = multiplyBase(curve, toBytes(randomScalar(curve.n), 32));
    const { counter } = await run(execute, EC_Ephemeral, { curveID: curve.id }, []);
    for (const wrong of [counter + 128, counter + 1, 0xffff]) {
      const request = { keyA, inQsB: point, inQeB: point, inScheme: ECDH, counter: wrong };
      await expectCode(execute, atParameter(TPM_RC.VALUE, 4), ZGen_2Phase, request);
    }
  });
});
