// What operators see and do when the chip goes away or the host changes.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Config } from '../../src/config/config.js';
import { Failure } from '../../src/failure.js';
import { tpmux } from '../cli/command-line.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { RunningDaemon } from '../support/running-daemon.js';
import { waitFor } from '../support/wait-for.js';

const run = promisify(execFile);

describe('a daemon and its chip', function () {
  this.timeout(60_000);
  let swtpm: Swtpm;
  let daemon: RunningDaemon;
  before(async () => {
    swtpm = await startSwtpm();
    daemon = await RunningDaemon.create({ embeddedTpm: false, tcti: swtpm.tcti });
    await daemon.start();
    assert.equal((await daemon.ask('POST', '/v1/guests', { name: 'web1' })).status, 201);
    assert.equal((await daemon.ask('POST', '/v1/guests', { name: 'web2' })).status, 201);
  });
  after(async () => {
    await daemon.dispose();
    await swtpm.stop();
  });

  const status = async (): Promise<{ state: string; reason: string | null }> => {
    const { text } = await daemon.ask('GET', '/v1/status');
    return (JSON.parse(text) as { tpm: { state: string; reason: string | null } }).tpm;
  };
  const tool = async (name: string, ...args: string[]): Promise<string> => {
    const socket = join(daemon.config.runDir, 'guests', 'web1', 'tpm.sock');
    return (await run(name, args, { env: { ...process.env, TPM2TOOLS_TCTI: `swtpm:path=${socket}` } })).stdout;
  };
  const command = (...args: string[]): ReturnType<typeof tpmux> => tpmux([...args, '--run-dir', daemon.config.runDir]);
  const restart = async (overrides: Partial<Config>): Promise<void> => {
    await daemon.stop();
    daemon.config = { ...daemon.config, ...overrides };
    await daemon.start();
  };
  /** What an update of the host does; the daemon has the only connection to this chip, so it does not run meanwhile. */
  const extendHost = async (): Promise<void> => {
    await daemon.stop();
    execFileSync('tpm2_pcrextend', [`16:sha256=${'11'.repeat(32)}`], { env: { ...process.env, TPM2TOOLS_TCTI: swtpm.tcti } });
    await daemon.start();
  };

  it('shows a chip that is gone, and resumes guests that could not be started when it is back', async () => {
    assert.equal((await status()).state, 'ok');
    await tool('tpm2_startup', '-c');
    await daemon.ask('POST', '/v1/guests/web2/stop');
    await swtpm.kill();
    const failed = await daemon.ask('POST', '/v1/guests/web2/start');
    assert.deepEqual([failed.status, failed.body.error.code, failed.body.error.exit], [503, 'tpm_unreachable', 4]);
    const { state, reason } = await status();
    assert.equal(state, 'unreachable');
    assert.match(reason ?? '', /cannot connect/);
    assert.match((await daemon.ask('GET', '/metrics')).text, /tpmux_chip_state\{state="unreachable"\} 1/);
    assert.match((await command('status')).out, /unreachable since .*cannot connect/);
    await tool('tpm2_pcrextend', `16:sha256=${'00'.repeat(32)}`);
    assert.equal((await daemon.ask('GET', '/v1/guests/web2')).body.state, 'failed');
    await swtpm.restart();
    await waitFor(async () => (await daemon.ask('GET', '/v1/guests/web2')).body.state === 'running');
    assert.equal((await status()).state, 'ok');
  });

  it('stops in order while the chip is gone, and is refused at the start then (exit code 4)', async () => {
    await swtpm.kill();
    await daemon.stop();
    await assert.rejects(daemon.start(), (error) => error instanceof Failure && error.exit === 4);
    await swtpm.restart();
    await daemon.start();
    assert.equal((await daemon.ask('GET', '/v1/guests/web1')).body.state, 'running');
  });

  it('refuses guests on a host with other PCRs (exit code 3), others run, until they are sealed anew', async () => {
    await restart({ sealTo: { bank: 'sha256', pcrs: [16] } });
    const sealed = await command('host', 'reseal');
    assert.deepEqual([sealed.code, sealed.out], [0, 'web1: sealed anew\nweb2: sealed anew\n']);
    const { event, detail } = (await daemon.ask('GET', '/v1/audit')).body.entries?.at(-1) ?? {};
    assert.deepEqual([event, detail], ['host-resealed', 'guests: web1, web2']);
    await restart({});
    assert.equal((await daemon.ask('GET', '/v1/guests/web1')).body.state, 'running');
    await extendHost();
    const { state, reason } = (await daemon.ask('GET', '/v1/guests/web1')).body;
    assert.equal(state, 'failed');
    assert.match(reason ?? '', /PCRs are not those that the state of the guest is sealed to \(boot the approved system/);
    assert.equal((await command('guest', 'start', 'web1')).code, 3);
    assert.equal((await daemon.ask('POST', '/v1/guests', { name: 'web3' })).status, 201);
    const failed = await command('host', 'reseal');
    assert.equal(failed.code, 1);
    assert.match(failed.err, /web1 anew : .*1 more guests failed/);
    for (const name of ['web1', 'web2']) await daemon.ask('DELETE', `/v1/guests/${name}`);
  });

  it('takes a policy that the authority signed for the host of tomorrow', async () => {
    const at = (name: string): string => join(daemon.root, name);
    const openssl = (...args: string[]): Buffer => execFileSync('openssl', args, { stdio: 'pipe' });
    openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', at('key.pem'));
    openssl('pkey', '-in', at('key.pem'), '-pubout', '-out', at('key.pub'));
    await writeFile(at('approved.yaml'), '[]');
    await restart({ sealTo: { authority: at('key.pub') }, policySignature: at('approved.yaml') });
    assert.equal((await command('host', 'reseal')).code, 0);
    assert.equal((await command('guest', 'stop', 'web3')).code, 0);
    assert.equal((await command('guest', 'start', 'web3')).code, 3);

    const approve = async (...args: string[]): Promise<void> => {
      const digest = await command('host', 'policy-digest', '--pcrs', '16', '--out', at('policy.bin'), '--json', ...args);
      assert.equal(digest.code, 0, digest.err);
      openssl('dgst', '-sha256', '-sign', at('key.pem'), '-out', at('policy.sig'), at('policy.bin'));
      const { bank, pcrs, policy } = JSON.parse(digest.out) as { bank: string; pcrs: number[]; policy: string };
      const signature = (await readFile(at('policy.sig'))).toString('base64');
      await writeFile(at('approved.yaml'), JSON.stringify([{ bank, pcrs, policy, signature }]));
    };
    await approve();
    assert.equal((await command('guest', 'start', 'web3')).code, 0);
    const now = /16 *: 0x([0-9A-F]{64})/;
    await daemon.stop();
    const read = execFileSync('tpm2_pcrread', ['sha256:16'], { env: { ...process.env, TPM2TOOLS_TCTI: swtpm.tcti } }).toString();
    await daemon.start();
    const { createHash } = await import('node:crypto');
    const before = Buffer.from(now.exec(read)?.[1] ?? '', 'hex');
    const tomorrow = createHash('sha256').update(before).update(Buffer.alloc(32, 0x11)).digest('hex');
    await approve('--value', `16=${tomorrow}`);
    await extendHost();
    assert.equal((await daemon.ask('GET', '/v1/guests/web3')).body.state, 'running');
  });
});
