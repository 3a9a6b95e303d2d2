// Hash sequences of a D-RTM and an H-CRTM, side by side with swtpm.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { GetRandom, PCR_Extend, PCR_Read, ReadClock, Shutdown, Startup } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_SU } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { Exchange, responseSize } from '../../support/exchange.js';
import { codeOf, type Execute, frame, parse, run } from '../../support/frames.js';
import { startSwtpm, type Swtpm } from '../../support/swtpm.js';
import { openTestTpm, type TestTpm } from '../../support/vtpm.js';

const exec = promisify(execFile);
const { SHA1, SHA256 } = TPM_ALG;
const start = frame(Startup, { startupType: TPM_SU.CLEAR });

async function pcrs(execute: Execute): Promise<string> {
  const values: string[] = [];
  for (const pcrSelect of ['010000', '0000fe', '000001']) {
    const pcrSelectionIn = [{ hash: SHA256, pcrSelect: Buffer.from(pcrSelect, 'hex') }];
    const { out } = parse(PCR_Read, await execute(frame(PCR_Read, { pcrSelectionIn })));
    values.push(...(out?.pcrValues ?? []).map((value) => value.toString('hex')));
  }
  return values.join('\n');
}

describe('a hash sequence from locality 4', () => {
  let swtpm: Swtpm;
  let raw: Exchange;
  let test: TestTpm;
  beforeEach(async () => {
    swtpm = await startSwtpm({ flags: '' });
    raw = new Exchange(swtpm.data);
    test = await openTestTpm({ startup: false });
    await test.tpm.powerOn();
    await control('-i');
  });
  afterEach(async () => {
    raw.close();
    await swtpm.stop();
    assert.deepEqual(test.failures, []);
  });
  const control = async (...args: string[]): Promise<string> => {
    const { stdout } = await exec('swtpm_ioctl', ['--unix', `${swtpm.socketPath}.ctrl`, ...args]);
    return stdout;
  };
  const theirs: Execute = (bytes) => raw.send(bytes, responseSize);
  const both = async (bytes: Buffer): Promise<void> => {
    assert.equal(codeOf(await test.execute(bytes)), codeOf(await theirs(bytes)));
  };
  const launch = async (data: string): Promise<void> => {
    await test.tpm.hashStart();
    await test.tpm.hashData(Buffer.from(data));
    await test.tpm.hashEnd();
    await control('-h', data);
  };
  const same = async (): Promise<void> => {
    assert.equal(await pcrs(test.execute), await pcrs(theirs));
  };

  it('resets the dynamic PCRs and goes into PCR 17 after startup', async () => {
    await both(start);
    await same();
    assert.equal(test.tpm.established, false);
    await launch('measured launch');
    await same();
    assert.equal(test.tpm.established, true);
    assert.match(await control('-e'), /1/);
    await launch('another');
    await same();
    const count = async (execute: Execute): Promise<number> => (await run(execute, ReadClock, {})).currentTime.clockInfo.restartCount;
    assert.equal(await count(test.execute), await count(theirs));
    assert.equal(await test.tpm.resetEstablished(2), false);
    assert.equal(await test.tpm.resetEstablished(3), true);
    assert.equal(test.tpm.established, false);
  });

  it('goes into PCR 0 before startup, which leaves it there', async () => {
    await launch('core root of trust');
    await both(start);
    await same();
    await both(frame(Shutdown, { shutdownType: TPM_SU.STATE }));
    await test.tpm.init(false);
    await control('-i');
    // It goes on only after the same H-CRTM.
    await both(frame(Startup, { startupType: TPM_SU.STATE }));
    await launch('core root of trust');
    await both(frame(Startup, { startupType: TPM_SU.STATE }));
    await same();
  });

  it('is ended by a command', async () => {
    await test.execute(start);
    const before = await pcrs(test.execute);
    await test.tpm.hashStart();
    await test.tpm.hashData(Buffer.from('lost'));
    await test.execute(frame(GetRandom, { bytesRequested: 4 }));
    await test.tpm.hashEnd();
    assert.equal(await pcrs(test.execute), before);
    await test.tpm.hashData(Buffer.from('nothing begun'));
    await test.tpm.hashEnd();
    assert.equal(test.tpm.established, false);
  });

  it('stands in the log, like everything else that happens to PCRs', async () => {
    await test.execute(start);
    await test.tpm.hashStart();
    await test.tpm.hashEnd();
    const digest = hash(SHA1, Buffer.from('x'));
    await test.execute(frame(PCR_Extend, { pcrHandle: 12, digests: [{ hashAlg: SHA1, digest }] }), 2);
    const entries = test.tpm.pcrLog.map(({ number, kind, command, locality, pcr, digests }) => ({
      number,
      kind,
      command,
      locality,
      pcr,
      digests: digests.length,
    }));
    assert.deepEqual(entries, [
      { number: 1, kind: 'startup', command: 'Startup (reset)', locality: 0, pcr: null, digests: 0 },
      { number: 2, kind: 'launch', command: '_TPM_Hash_End', locality: 4, pcr: 17, digests: 4 },
      { number: 3, kind: 'extend', command: 'PCR_Extend', locality: 2, pcr: 12, digests: 1 },
    ]);
    assert.equal(codeOf(await test.execute(start)), TPM_RC.INITIALIZE);
  });
});
