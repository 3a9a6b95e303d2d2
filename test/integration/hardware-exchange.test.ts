// Two-phase key exchange with keys in the chip, and what is left to software: anonymous attestation.
import assert from 'node:assert/strict';
import { mod, toBigInt, toBytes } from '../../src/crypto/big-integer.js';
import { getCurve } from '../../src/crypto/ecc-curves.js';
import { addPoints, generateEccKey, multiply } from '../../src/crypto/ecc.js';
import { Commit, CreatePrimary, EC_Ephemeral, Sign, ZGen_2Phase } from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_ST, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { atHandle, TPM_RC } from '../../src/tpm/response-code.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { Bench } from '../hardware/fixture.js';
import { openChipGuest } from '../support/chip-guest.js';
import { type Execute, expectCode, none, run } from '../support/frames.js';
import { eccTemplate } from '../support/templates.js';

const { ECDH, ECMQV, ECDAA, SHA256 } = TPM_ALG;
const curve = getCurve(TPM_ECC_CURVE.NIST_P256);
const free = TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth;
const HALF = 128n;
const associated = (x: Buffer): bigint => (1n << HALF) + (toBigInt(x) & ((1n << HALF) - 1n));

describe('exchanges with keys in the chip', () => {
  let bench: Bench;
  let execute: Execute;
  before(async () => {
    bench = await Bench.start();
    ({ execute } = await openChipGuest(await bench.open(), 'alice'));
  });
  after(() => bench.stop());

  async function primary(inPublic: TPMT_PUBLIC): Promise<{ handle: number; publicArea: TPMT_PUBLIC }> {
    const request = {
      primaryHandle: TPM_RH.OWNER,
      inSensitive: { userAuth: none, data: none },
      inPublic,
      outsideInfo: none,
      creationPCR: [],
    };
    const { objectHandle, outPublic } = await run(execute, CreatePrimary, request);
    return { handle: objectHandle, publicArea: outPublic };
  }

  it('ECDH and ECMQV find the point that the other side finds', async () => {
    const { handle: keyA, publicArea } = await primary({ ...eccTemplate(), objectAttributes: free | TPMA_OBJECT.decrypt });
    if (publicArea.type !== TPM_ALG.ECC) assert.fail('an ECC key');
    const [b, e] = [generateEccKey(curve), generateEccKey(curve)];
    const request = { keyA, inQsB: b.point, inQeB: e.point };
    const ephemeral = await run(execute, EC_Ephemeral, { curveID: curve.id }, []);
    let both = { outZ1: b.point, outZ2: b.point };
    const used = await bench.commandsOf(async () => {
      both = await run(execute, ZGen_2Phase, { ...request, inScheme: ECDH, counter: ephemeral.counter });
    });
    assert.ok(used.includes('ECDH_ZGen'), used.join());
    assert.deepEqual(both.outZ1, multiply(curve, b.d, publicArea.unique));
    assert.deepEqual(both.outZ2, multiply(curve, e.d, ephemeral.Q));

    const { Q, counter } = await run(execute, EC_Ephemeral, { curveID: curve.id }, []);
    const { outZ1 } = await run(execute, ZGen_2Phase, { ...request, inScheme: ECMQV, counter });
    const implicit = mod(toBigInt(e.d) + associated(e.point.x) * toBigInt(b.d), curve.n);
    const peer = addPoints(curve, Q, multiply(curve, toBytes(associated(Q.x), 32), publicArea.unique));
    assert.ok(peer);
    assert.deepEqual(outZ1, multiply(curve, toBytes(implicit, 32), peer));
  });

  it('ECDAA keys are software keys; a key in the chip cannot sign so', async () => {
    const details = { hashAlg: SHA256, count: 0 } as const;
    const signing = { ...eccTemplate(), objectAttributes: free | TPMA_OBJECT.sign };
    const anonymous = { ...signing, parameters: { ...signing.parameters, scheme: { scheme: ECDAA, details } } };
    const digest = Buffer.alloc(32, 1);
    const validation = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
    const used = await bench.commandsOf(async () => {
      const { handle } = await primary(anonymous);
      const P1 = { x: none, y: none };
      const { counter } = await run(execute, Commit, { signHandle: handle, P1, s2: none, y2: none });
      const inScheme = { scheme: ECDAA, details: { hashAlg: SHA256, count: counter } } as const;
      await run(execute, Sign, { keyHandle: handle, digest, inScheme, validation });
    });
    assert.deepEqual(used, []);
    const { handle } = await primary(signing);
    await expectCode(execute, TPM_RC.SCHEME, Sign, { keyHandle: handle, digest, inScheme: { scheme: ECDAA, details }, validation });
    await expectCode(execute, atHandle(TPM_RC.SCHEME, 1), Commit, { signHandle: handle, P1: { x: none, y: none }, s2: none, y2: none });
  });
});
