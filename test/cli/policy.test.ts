// tpmux policy … and guest policy: offline for files, through a daemon for guests.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tpmux, type Result, type Running, startServing } from './command-line.js';
import { waitFor } from '../support/wait-for.js';

describe('tpmux policy', function () {
  this.timeout(180_000);
  let directory: string;
  const at = (name: string): string => join(directory, name);
  const client = (...args: string[]): Promise<Result> => tpmux(args, { TPMUX_RUN_DIR: at('run'), TPMUX_CONFIG: at('tpmux.yaml') });
  const ok = async (...args: string[]): Promise<string> => {
    const { code, out, err } = await client(...args);
    assert.equal(code, 0, err);
    return out;
  };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tpmux-policy-'));
    await mkdir(at('policies'));
    await writeFile(at('tpmux.yaml'), JSON.stringify({ policies: { directory: at('policies') }, limits: { 'nv-indices': 77 } }));
    await writeFile(at('policies/web.yaml'), 'version: 1\npresent: {0-7: certified}\n');
    await writeFile(at('own.yaml'), 'version: 1\nclass: web\nattest: {reveal: [os.*], digests: hide}\nkeys: {anchored: [owner]}\n');
    await writeFile(at('wrong.yaml'), 'version: 1\npresent: {0-99: certified}\n');
  });
  after(() => rm(directory, { recursive: true, force: true }));

  describe('without a daemon', () => {
    it('checks a file, and names file and place of what is wrong', async () => {
      assert.match(await ok('policy', 'check', at('own.yaml')), /own\.yaml: ok, [0-9a-f]{64}\n$/);
      const { settings } = JSON.parse(await ok('policy', 'check', at('own.yaml'), '--json')) as { settings: { present: object } };
      assert.deepEqual(settings.present, { '0-7': 'certified', default: 'digest' });
      const wrong = await client('policy', 'check', at('wrong.yaml'));
      assert.equal(wrong.code, 2);
      assert.match(wrong.err, /^tpmux: reading the policy .*wrong\.yaml : present\.0-99: Expected PCRs such as 0-7/);
      assert.equal((await client('policy', 'check', at('nothing.yaml'))).code, 2);
      const foreign = await client('policy', 'check', at('own.yaml'), '--classes', at('nowhere'));
      assert.equal(foreign.code, 3);
      assert.match(foreign.err, /there is no class web, which would be the file .*nowhere\/web\.yaml/);
    });

    it('explains in words', async () => {
      const text = await ok('policy', 'explain', at('own.yaml'));
      assert.match(text, /PCR 0-7: certified, the certified properties of what is measured/);
      assert.match(text, /PCR 8-23: digest, what is measured, as in an ordinary TPM/);
      assert.match(text, /properties that are revealed: os\.\*\n {2}digests of binaries are hidden\n/);
      assert.match(text, /owner: in the hardware TPM, and they never leave it \(anchored\)/);
      assert.match(text, /nv-indices: 77 NV indices \(the host's\)/);
      const { explanation } = JSON.parse(await ok('policy', 'explain', at('own.yaml'), '--json')) as { explanation: unknown[] };
      assert.ok(explanation.length > 5);
      assert.equal((await client('policy', 'explain')).code, 2);
      assert.equal((await client('policy', 'explain', at('own.yaml'), '--guest', 'g1')).code, 2);
    });

    it('tells what differs, and when that takes effect', async () => {
      const same = await client('policy', 'diff', at('own.yaml'), at('own.yaml'));
      assert.deepEqual([same.code, same.out], [0, '']);
      const { code, out } = await client('policy', 'diff', at('policies/web.yaml'), at('own.yaml'));
      assert.equal(code, 1);
      assert.deepEqual(out.trimEnd().split('\n'), [
        'attest.reveal: all -> ["os.*"] (at once)',
        'attest.digests: reveal -> hide (at once)',
        'keys.anchored: none -> ["owner"] (refused for a guest that exists)',
      ]);
      const json = await client('policy', 'diff', at('own.yaml'), at('policies/web.yaml'), '--json');
      assert.equal(json.code, 1);
      assert.equal((JSON.parse(json.out) as { changes: { effect: string }[] }).changes[0]?.effect, 'now');
    });
  });

  describe('with a daemon', () => {
    let daemon: Running;
    before(async () => {
      daemon = await startServing([
        'serve',
        '--embedded-tpm',
        '--config',
        at('tpmux.yaml'),
        '--state-dir',
        at('state'),
        '--run-dir',
        at('run'),
      ]);
    });
    after(async () => {
      daemon.child.kill('SIGTERM');
      assert.equal((await daemon.result).code, 0, daemon.err());
    });

    it('gives a guest a policy, shows it and changes it', async () => {
      const refused = await client('guest', 'create', 'g1', '--policy', at('wrong.yaml'));
      assert.equal(refused.code, 2);
      assert.match(refused.err, /wrong\.yaml : present\.0-99/);
      await ok('guest', 'create', 'g1', '--policy', at('own.yaml'));
      assert.match(await ok('guest', 'policy', 'g1'), /^# [0-9a-f]{64}\nversion: 1\nclass: web\n/);
      assert.match(await ok('policy', 'explain', '--guest', 'g1'), /PCR 0-7: certified/);
      assert.equal((await client('policy', 'diff', 'guest:g1', at('own.yaml'))).code, 0);
      await writeFile(at('next.yaml'), 'version: 1\nclass: web\npresent: {7: digest}\nkeys: {anchored: [owner]}\n');
      const changed = await ok('guest', 'policy', 'g1', at('next.yaml'));
      assert.match(changed, /^present\.7: certified -> digest \(from the guest's next reset on\)\nattest\.reveal: .* \(at once\)\n/);
      assert.match(await ok('guest', 'policy', 'g1'), /waits for the guest's next reset/);
      const fixed = await client('guest', 'policy', 'g1', '--none');
      assert.equal(fixed.code, 3);
      assert.match(fixed.err, /keys\.anchored is \["owner"\] since the guest was created/);
      assert.equal((await client('guest', 'policy', 'g1', at('next.yaml'), '--none')).code, 2);
    });

    it('reads classes again, by command and by SIGHUP', async () => {
      await writeFile(at('policies/web.yaml'), 'version: 1\npresent: {0-8: certified}\n');
      assert.equal(await ok('policy', 'reload'), "classes: web\ng1: present.8: digest -> certified (from the guest's next reset on)\n");
      await writeFile(at('policies/web.yaml'), 'version: 1\npresent: {0-9: certified}\n');
      daemon.child.kill('SIGHUP');
      await waitFor(async () => (await ok('policy', 'explain', '--guest', 'g1')).includes('PCR 0-6,8-9: certified'));
      await rm(at('policies/web.yaml'));
      const { code, err } = await client('policy', 'reload');
      assert.equal(code, 1);
      assert.match(err, /the policy of guest g1, which keeps what it has : .*there is no class web/);
    });
  });
});
