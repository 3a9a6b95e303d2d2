// Random numbers and self-tests, side by side with swtpm.
import assert from 'node:assert/strict';
import { GetRandom, GetTestResult, IncrementalSelfTest, SelfTest, StirRandom } from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPMA_SESSION } from '../../../../src/tpm/constants/index.js';
import { atParameter, TPM_RC } from '../../../../src/tpm/response-code.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { none, password, rawFrame } from '../../../support/frames.js';
import { aesCfb, ClientSession, runWithSessions } from '../../../support/sessions.js';

describe('random numbers and self-tests', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });

  it('GetRandom gives as much as asked for, at most 64 bytes', async () => {
    for (const bytesRequested of [0, 1, 20, 63, 64, 65, 1000, 65535]) {
      const { ours, theirs } = await both.run(GetRandom, { bytesRequested });
      assert.equal(ours.randomBytes.length, theirs.randomBytes.length);
      assert.equal(ours.randomBytes.length, Math.min(bytesRequested, 64));
    }
    const { ours } = await both.run(GetRandom, { bytesRequested: 32 });
    assert.notDeepEqual(ours.randomBytes, Buffer.alloc(32));
  });

  it('GetRandom in an encrypting session', async () => {
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      for (const symmetric of [aesCfb, { algorithm: TPM_ALG.XOR, keyBits: TPM_ALG.SHA256, mode: null }] as const) {
        const session = await ClientSession.start(execute, { symmetric });
        const attributes = TPMA_SESSION.encrypt | TPMA_SESSION.audit;
        const { randomBytes } = await runWithSessions(execute, GetRandom, { bytesRequested: 16 }, [{ session, attributes }]);
        assert.equal(randomBytes.length, 16);
      }
    }
  });

  it('GetRandom refuses bad frames alike', async () => {
    for (const hex of ['', '00', '000000']) await both.sameCode(rawFrame(GetRandom.code, [], Buffer.from(hex, 'hex')));
    await both.sameCode(rawFrame(GetRandom.code, [], Buffer.of(0, 4), [password()]));
  });

  it('StirRandom', async () => {
    for (const size of [0, 1, 128]) await both.runSame(StirRandom, { inData: Buffer.alloc(size, 1) });
    assert.equal(await both.code(StirRandom, { inData: Buffer.alloc(129) }), atParameter(TPM_RC.SIZE, 1));
  });

  it('self-tests', async () => {
    await both.runSame(GetTestResult, {});
    for (const fullTest of [0, 1] as const) await both.runSame(SelfTest, { fullTest });
    await both.sameCode(rawFrame(SelfTest.code, [], Buffer.of(2)));
    await both.runSame(IncrementalSelfTest, { toTest: [TPM_ALG.SHA256, TPM_ALG.AES, TPM_ALG.RSA] });
    await both.runSame(IncrementalSelfTest, { toTest: [] });
    for (const alg of [0, 0x7f, 0x29, 0xffff]) {
      assert.equal(await both.code(IncrementalSelfTest, { toTest: [TPM_ALG.SHA256, alg] }), atParameter(TPM_RC.VALUE, 1));
    }
    await both.sameCode(rawFrame(IncrementalSelfTest.code, [], Buffer.concat([Buffer.of(0, 0, 0, 65), Buffer.alloc(130)])));
    await both.runSame(GetTestResult, {});
    assert.equal((await both.runSame(GetTestResult, {})).outData.length, none.length);
  });
});
