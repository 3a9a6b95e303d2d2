// What Shutdown(STATE) saved is of use only as long as nothing of it has changed.
import assert from 'node:assert/strict';
import { getCurve } from '../../../src/crypto/ecc-curves.js';
import { generateEccKey } from '../../../src/crypto/ecc.js';
import { Commit, EC_Ephemeral, LoadExternal, Quote, Shutdown, Sign, Startup, ZGen_2Phase } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_ST, TPM_SU, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { baseCode, TPM_RC } from '../../../src/tpm/response-code.js';
import { codeOf, expectCode, frame, none, run } from '../../support/frames.js';
import { eccTemplate, type PublicOf } from '../../support/templates.js';
import { openTestTpm } from '../../support/vtpm.js';

const { SHA256, ECDAA, ECDH, NULL } = TPM_ALG;
const FIRST = 0x80000000;
const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
type Ecc = PublicOf<typeof TPM_ALG.ECC>;
const signing = TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign;
const decrypting = TPMA_OBJECT.userWithAuth | TPMA_OBJECT.decrypt;
const template = (objectAttributes: number, scheme: Ecc['parameters']['scheme']): Ecc => {
  const base = eccTemplate(TPM_ECC_CURVE.NIST_P256);
  return { ...base, objectAttributes, parameters: { ...base.parameters, scheme } };
};
const anonymous = template(signing, { scheme: ECDAA, details: { hashAlg: SHA256, count: 0 } });
const exchanging = template(decrypting, { scheme: NULL, details: null });

describe('what Shutdown(STATE) saved', () => {
  it('is void when an ephemeral key was used or given out since: none can come a second time', async () => {
    const curveID = TPM_ECC_CURVE.NIST_P256;
    const key = generateEccKey(getCurve(curveID));
    const other = generateEccKey(getCurve(curveID)).point;
    const external = (inPublic: Ecc) =>
      ({
        inPrivate: { sensitiveType: TPM_ALG.ECC, authValue: none, seedValue: none, sensitive: key.d },
        inPublic: { ...inPublic, unique: key.point },
        hierarchy: TPM_RH.NULL,
      }) as const;
    const sign = (count: number) =>
      frame(Sign, {
        keyHandle: FIRST,
        digest: Buffer.alloc(32),
        inScheme: { scheme: ECDAA, details: { hashAlg: SHA256, count } },
        validation: noTicket,
      });
    const exchange = (counter: number) => frame(ZGen_2Phase, { keyA: FIRST + 1, inQsB: other, inQeB: other, inScheme: ECDH, counter });
    const afterwards = {
      'Sign with ECDAA': sign,
      ZGen_2Phase: exchange,
      Commit: () => frame(Commit, { signHandle: FIRST, P1: { x: none, y: none }, s2: none, y2: none }),
      EC_Ephemeral: () => frame(EC_Ephemeral, { curveID }),
      'a quote': (count: number) => {
        const inScheme = { scheme: ECDAA, details: { hashAlg: SHA256, count } } as const;
        return frame(Quote, { signHandle: FIRST, qualifyingData: none, inScheme, PCRselect: [] });
      },
    };
    for (const [name, use] of Object.entries(afterwards)) {
      const guest = await openTestTpm();
      const { execute } = guest;
      await run(execute, LoadExternal, external(anonymous), []);
      await run(execute, LoadExternal, external(exchanging), []);
      const first = await run(execute, Commit, { signHandle: FIRST, P1: { x: none, y: none }, s2: none, y2: none });
      const { counter } = name === 'ZGen_2Phase' ? await run(execute, EC_Ephemeral, { curveID }) : first;
      await run(execute, Shutdown, { shutdownType: TPM_SU.STATE });
      assert.equal(codeOf(await execute(use(counter))), 0, name);
      await guest.powerCycle();
      await expectCode(execute, TPM_RC.VALUE, Startup, { startupType: TPM_SU.STATE });
      await run(execute, Startup, { startupType: TPM_SU.CLEAR });
      await run(execute, LoadExternal, external(anonymous), []);
      await run(execute, LoadExternal, external(exchanging), []);
      for (const again of [sign, exchange]) assert.equal(baseCode(codeOf(await execute(again(counter)))), TPM_RC.VALUE, name);
    }
  });
});
