import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { tpmux, type Result, type Running, startServing } from '../command-line.js';

const run = promisify(execFile);

describe('the command line with a daemon', () => {
  let root: string;
  let daemon: Running;

  const serve = (): Promise<Running> =>
    startServing(['serve', '--embedded-tpm', '--state-dir', join(root, 'state'), '--run-dir', join(root, 'run')]);
  const tpm2 = async (tcti: string, name: string, ...args: string[]): Promise<string> =>
    (await run(name, args, { env: { ...process.env, TPM2TOOLS_TCTI: tcti } })).stdout;
  const client = (...args: string[]): Promise<Result> => tpmux(args, { TPMUX_RUN_DIR: join(root, 'run') });
  const json = async (...args: string[]): Promise<Record<string, unknown>> => {
    const { code, out, err } = await client(...args, '--json');
    assert.equal(code, 0, err);
    return JSON.parse(out) as Record<string, unknown>;
  };

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-cli-'));
    daemon = await serve();
  });
  after(async () => {
    daemon.child.kill('SIGTERM');
    await daemon.result;
    await rm(root, { recursive: true });
  });

  it('says ready on standard output, logs elsewhere', () => {
    assert.equal(daemon.out(), 'ready\n');
    assert.match(daemon.err(), /NOT a hardware TPM/);
  });

  it('creates, lists and shows', async () => {
    const created = await json('guest', 'create', 'web1', '--tcp', '22731');
    assert.equal(created['state'], 'running');
    const off = await client('guest', 'create', 'later', '--no-start');
    assert.equal(off.code, 0);
    assert.match(off.out, /^state {8}off$/m);
    const { out } = await client('guest', 'list');
    assert.match(out, /^NAME +STATE +POWER +MACHINE +TCP +TCTI\nlater +off +off +- +- .*\nweb1 +running +on +- +22731 /);
    const { guests } = await json('guest', 'list');
    assert.equal((guests as unknown[]).length, 2);
  });

  it('prints what programs need, and says where the kernel cannot make a device', async () => {
    const { out } = await client('guest', 'attach', 'web1', '--format', 'tcti');
    assert.equal(out, `swtpm:path=${join(root, 'run', 'guests', 'web1', 'tpm.sock')}\n`);
    await tpm2(out.trim(), 'tpm2_startup', '-c');
    assert.match(await tpm2('swtpm:host=127.0.0.1,port=22731', 'tpm2_getrandom', '4', '--hex'), /^[0-9a-f]{8}$/);
    const libvirt = await json('guest', 'attach', 'web1', '--format', 'libvirt');
    assert.match(String(libvirt['text']), /<backend type='external'>/);
    if (existsSync('/dev/vtpmx')) return;
    const device = await client('guest', 'attach', 'web1', '--device');
    assert.deepEqual([device.code, device.out], [5, '']);
    assert.match(
      device.err,
      /^tpmux: making a TPM device for guest web1 : the kernel has no \/dev\/vtpmx \(load the kernel module: 'modprobe tpm_vtpm_proxy'.*\n$/,
    );
  });

  it('reads PCRs and counters', async () => {
    const { out } = await client('pcr', 'read', 'web1', '0', '17', '--bank', 'sha256');
    assert.equal(out, `sha256:\n   0: 0x${'0'.repeat(64)}\n  17: 0x${'F'.repeat(64)}\n`);
    const { banks } = await json('pcr', 'read', 'web1', '16');
    assert.deepEqual((banks as Record<string, object>)['sha256'], { 16: '00'.repeat(32) });
    assert.match((await client('counters', 'web1')).out, /^COMMAND +CALLS +HARDWARE +PER CALL +CHIP MS\n(.*\n)*GetRandom +1 +0 +0\.00/);
    assert.equal((await client('pcr', 'read', 'later')).code, 1);
    assert.equal((await client('pcr', 'read', 'web1', '--bank', 'md5')).code, 2);
    assert.equal((await client('pcr', 'read', 'web1', '25')).code, 2);
  });

  it('shows the status and a clean bill of health', async () => {
    const status = await json('status');
    assert.equal(status['pid'], daemon.child.pid);
    assert.match((await client('status')).out, /embedded: NOT a hardware TPM/);
    const doctor = await client('doctor');
    assert.equal(doctor.code, 0, doctor.out);
    assert.match(doctor.out, /^ok {4}daemon +running/m);
  });

  it('keeps standard output empty on an error', async () => {
    const result = await client('guest', 'show', 'none', '--json');
    assert.deepEqual([result.code, result.out], [1, '']);
    assert.equal((await client('guest', 'create', 'web1')).code, 1);
  });

  it('survives a kill: the next daemon ends the old TPM, starts what ran and has all state', async () => {
    const tcti = `swtpm:path=${join(root, 'run', 'guests', 'web1', 'tpm.sock')}`;
    await tpm2(tcti, 'tpm2_nvdefine', '0x1500020', '-s', '4', '-a', 'ownerread|ownerwrite|authread|authwrite');
    const old = Number(await readFile(join(root, 'state', 'embedded-tpm', 'swtpm.pid'), 'utf8'));
    daemon.child.kill('SIGKILL');
    await daemon.result;
    daemon = await serve();
    assert.match(daemon.err(), new RegExp(`a killed daemon left pid=${old.toString()}`));
    await tpm2(tcti, 'tpm2_startup', '-c').catch(() => undefined);
    assert.match(await tpm2(tcti, 'tpm2_nvreadpublic'), /0x1500020/);
    assert.equal((await json('guest', 'show', 'later'))['state'], 'off');
  });

  it('stops, starts, resets and removes', async () => {
    assert.equal((await json('guest', 'stop', 'web1'))['state'], 'off');
    assert.equal((await json('guest', 'start', 'web1'))['state'], 'running');
    assert.equal((await json('guest', 'reset', 'web1'))['powered'], true);
    const refused = await client('guest', 'remove', 'web1');
    assert.equal(refused.code, 2);
    assert.deepEqual(await json('guest', 'remove', 'web1', '--yes'), { removed: 'web1' });
    assert.equal((await client('guest', 'remove', 'later', '--yes')).out, 'removed later\n');
    assert.deepEqual(await json('guest', 'list'), { guests: [] });
  });

  it('ends in order at SIGTERM', async () => {
    const { pid } = daemon.child;
    assert.ok(pid !== undefined);
    daemon.child.kill('SIGTERM');
    assert.equal((await daemon.result).code, 0);
    assert.deepEqual((await readdir(join(root, 'run'), { recursive: true })).sort(), ['chip', 'guests', 'volatile']);
  });

  it('is checked without a daemon, against the TPM itself', async () => {
    const without = await tpmux(['doctor', '--embedded-tpm', '--state-dir', join(root, 'state'), '--run-dir', join(root, 'run')]);
    assert.equal(without.code, 0, without.out);
    assert.match(without.out, /^ok {4}store +0 guests$/m);
    const unreachable = await tpmux([
      'doctor',
      '--tcti',
      'swtpm:path=/nonexistent',
      '--state-dir',
      join(root, 'none'),
      '--run-dir',
      join(root, 'run'),
    ]);
    assert.equal(unreachable.code, 1);
    assert.match(unreachable.out, /^fail {2}TCTI/m);
  });

  it('cannot serve without a TPM', async () => {
    const { code, err, out } = await tpmux([
      'serve',
      '--tcti',
      'swtpm:path=/nonexistent',
      '--state-dir',
      join(root, 's2'),
      '--run-dir',
      join(root, 'r2'),
    ]);
    assert.equal(code, 4, err);
    assert.equal(out, '');
    assert.match(err, /tpmux: opening the TPM swtpm:path=\/nonexistent : /);
  });
});
