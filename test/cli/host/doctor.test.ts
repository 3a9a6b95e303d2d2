import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { checkNode } from '../../../src/host/doctor.js';
import { startSwtpm, type Swtpm } from '../../support/swtpm.js';
import { tpmux, type Result, startServing } from '../command-line.js';

describe('tpmux doctor', () => {
  let root: string;
  let chip: Swtpm;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-doctor-'));
    chip = await startSwtpm();
  });
  after(async () => {
    await chip.stop();
    await rm(root, { recursive: true });
  });
  const doctor = (...args: string[]): Promise<Result> =>
    tpmux(['doctor', '--tcti', chip.tcti, '--state-dir', join(root, 'state'), '--run-dir', join(root, 'run'), ...args]);
  const line = ({ out }: Result, name: string): string => out.split('\n').find((each) => each.slice(6).startsWith(name)) ?? '';

  it('finds a chip in order, with the place of the host root free', async () => {
    const result = await doctor();
    assert.equal(result.code, 0, result.out);
    assert.match(line(result, 'TPM'), /^ok .*IBM/);
    assert.match(line(result, 'handle 0x81005450'), /^ok .*free$/);
    const { checks } = JSON.parse((await doctor('--json')).out) as { checks: { result: string }[] };
    assert.ok(checks.length > 12);
    assert.ok(checks.every((each) => each.result === 'ok'));
  });

  it('knows the host root again, and misses it', async () => {
    const daemon = await startServing(['serve', '--tcti', chip.tcti, '--state-dir', join(root, 'state'), '--run-dir', join(root, 'run')]);
    daemon.child.kill('SIGTERM');
    assert.equal((await daemon.result).code, 0);
    assert.match(line(await doctor(), 'handle 0x81005450'), /^ok .*holds the host root$/);
    const elsewhere = await doctor('--state-dir', join(root, 'other'));
    assert.match(line(elsewhere, 'handle 0x81005450'), /^warn .*does not know/);
    await promisify(execFile)('tpm2_evictcontrol', ['-C', 'o', '-c', '0x81005450'], { env: { ...process.env, TPM2TOOLS_TCTI: chip.tcti } });
    const missing = await doctor();
    assert.equal(missing.code, 1);
    assert.match(line(missing, 'handle 0x81005450'), /^fail .*put the right state directory and TPM together/);
  });

  it('warns of directories that others can read', async () => {
    await mkdir(join(root, 'open'));
    await chmod(join(root, 'open'), 0o755);
    const result = await doctor('--state-dir', join(root, 'open'));
    assert.match(line(result, 'state directory'), /^warn .*mode 755 \(chmod 0700/);
    assert.equal(result.code, 0, result.out);
  });

  it('knows which Node.js is old', () => {
    for (const [version, result] of [
      ['20.19.0', 'ok'],
      ['20.18.9', 'fail'],
      ['18.20.0', 'fail'],
      ['24.1.0', 'ok'],
    ] as const) {
      assert.equal(checkNode(version).result, result, version);
    }
  });
});
