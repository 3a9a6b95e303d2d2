// tpmux property …: from an issuer's key to what a digest means, and what a guest's PCRs say.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeEventLog, EVENT_TYPE } from '../../src/statements/event-log.js';
import { foldLog, type ExportedLog } from '../../src/properties/measurement-log/export.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';
import { BANKS, digestOf, newKey } from '../properties/fixture.js';
import { tpmux, type Result, type Running, startServing } from './command-line.js';

describe('tpmux property', () => {
  let directory: string;
  let daemon: Running;
  const at = (name: string): string => join(directory, name);
  const ok = async (...args: string[]): Promise<string> => {
    const { code, out, err } = await client(...args);
    assert.equal(code, 0, err);
    return out;
  };
  const client = (...args: string[]): Promise<Result> => tpmux([...args], { TPMUX_RUN_DIR: at('run') });
  const issue = ['--issuer', 'build@example.org', '--property', 'os.level=3'];

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tpmux-property-'));
    const key = newKey('p256');
    await writeFile(at('key.pem'), key.pem);
    await writeFile(at('key.pub'), createPublicKey(key.pem).export({ type: 'spki', format: 'pem' }));
    await writeFile(at('stranger.pem'), newKey().pem);
    await writeFile(at('kernel-a'), 'kernel a');
    const properties = {
      trust: [{ issuer: 'build@example.org', key: at('key.pub'), allowed: ['os.*', 'tpm.*'] }],
      providers: ['digest', 'certified', 'platform', 'log'],
    };
    await writeFile(at('tpmux.yaml'), JSON.stringify({ properties }));
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
    await daemon.result;
    await rm(directory, { recursive: true, force: true });
  });

  it('issues, adds, lists, shows, explains and revokes', async () => {
    await ok('property', 'issue', '--key', at('key.pem'), ...issue, '--file', at('kernel-a'), '--out', at('a.json'));
    const id = (await ok('property', 'add', at('a.json'))).trim();
    assert.match(await ok('property', 'list'), new RegExp(`${id.slice(0, 16)} +build@example.org +1 +in force +os.level=3`));
    assert.match(await ok('property', 'show', id.slice(0, 8)), /subject {5}kernel-a/);
    const digest = `sha256:${digestOf(TPM_ALG.SHA256, 'kernel a').toString('hex')}`;
    assert.match(await ok('property', 'explain', digest), /os\.level=3\n {2}certified extends [0-9a-f]{64}\nstatement .*: in force/);
    assert.match(await ok('property', 'explain', `sha256:${'00'.repeat(32)}`), /unknown/);
    await ok('property', 'revoke', '--key', at('key.pem'), '--issuer', 'build@example.org', id, '--reason', 'CVE-1');
    assert.match(await ok('property', 'explain', digest), /unknown[^]*revoked: its issuer revoked it: CVE-1/);
    await ok('property', 'remove', id);
    assert.equal((JSON.parse(await ok('property', 'list', '--json')) as { statements: unknown[] }).statements.length, 0);
  });

  it('refuses with the exit codes that are documented', async () => {
    await ok('property', 'issue', '--key', at('stranger.pem'), ...issue, '--file', at('kernel-a'), '--out', at('stranger.json'));
    const refused = await client('property', 'add', at('stranger.json'));
    assert.equal(refused.code, 3);
    assert.match(refused.err, /^tpmux: adding the statement : it is not signed by a trusted key/);
    await writeFile(at('garbage.json'), '{"a":1}');
    assert.equal((await client('property', 'add', at('garbage.json'))).code, 2);
    assert.equal((await client('property', 'explain', 'xyz')).code, 2);
    assert.equal((await client('property', 'show', 'ffff')).code, 1);
    assert.equal((await client('property', 'issue', '--key', at('key.pub'), ...issue, '--file', at('kernel-a'))).code, 2);
    const noProgram = await client('property', 'issue', '--key', at('key.pem'), ...issue, '--efi', at('kernel-a'));
    assert.equal(noProgram.code, 2);
    assert.match(noProgram.err, /kernel-a : not an EFI program: it is no PE image/);
    assert.equal((await client('property', 'issue', '--key', at('key.pem'), ...issue)).code, 2);
    assert.equal((await client('property', 'from-eventlog', at('garbage.json'), '--key', at('key.pem'), ...issue)).code, 2);
  });

  it('makes statements of what a machine measured; a guest that measures the same has them in its log', async () => {
    const event = (pcr: number, text: string) => ({
      pcr,
      type: EVENT_TYPE.EV_EFI_BOOT_SERVICES_APPLICATION,
      digests: BANKS.map((bank) => ({ bank, digest: digestOf(bank, text) })),
      data: Buffer.alloc(0),
    });
    await writeFile(at('log.bin'), encodeEventLog(BANKS, [event(4, 'loader'), event(4, 'kernel'), event(7, 'certificate')]));
    await ok('property', 'from-eventlog', at('log.bin'), '--key', at('key.pem'), ...issue, '--out', at('good.jsonl'));
    assert.equal((await readFile(at('good.jsonl'), 'utf8')).trim().split('\n').length, 2);
    await ok('property', 'add', at('good.jsonl'));
    await ok('guest', 'create', 'g1');
    const env = { ...process.env, TPM2TOOLS_TCTI: `swtpm:path=${at('run')}/guests/g1/tpm.sock` };
    execFileSync('tpm2_startup', ['-c'], { env });
    execFileSync('tpm2_pcrextend', [`4:sha256=${digestOf(TPM_ALG.SHA256, 'kernel').toString('hex')}`], { env });
    const answer = await tpmuxGet('/v1/guests/g1/log');
    const { log } = answer as { log: ExportedLog };
    const entry = log.entries.find(({ kind }) => kind === 'extend') ?? assert.fail();
    assert.deepEqual(Object.keys(entry.translated).sort(), ['certified', 'digest', 'log', 'platform']);
    assert.equal(entry.untranslated, undefined);
    const presented = execFileSync('tpm2_pcrread', ['sha256:4', '-Q', '-o', at('pcr')], { env });
    assert.equal(presented.length, 0);
    assert.deepEqual(await readFile(at('pcr')), foldLog(log, 'digest', TPM_ALG.SHA256, 4));
    const { tcg } = (await tpmuxGet('/v1/guests/g1/log?tcg=certified')) as { tcg: string };
    await writeFile(at('certified.bin'), Buffer.from(tcg, 'base64'));
    assert.match(execFileSync('tpm2_eventlog', [at('certified.bin')], { encoding: 'utf8' }), /EV_COMPACT_HASH/);
  });

  async function tpmuxGet(path: string): Promise<unknown> {
    const { request } = await import('node:http');
    return new Promise((resolve, reject) => {
      request({ socketPath: join(at('run'), 'control.sock'), path, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => {
          resolve(JSON.parse(text));
        });
      })
        .on('error', reject)
        .end();
    });
  }
});
