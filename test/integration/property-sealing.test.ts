// An unmodified guest (tpm2-tools) seals to PCRs that its policy presents by certified properties.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PropertySet } from '../../src/statements/property-set.js';
import { fixedValue } from '../../src/statements/fixed-value.js';
import { issueRevocations } from '../../src/statements/revocation.js';
import { statementIdOf } from '../../src/statements/catalog.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';
import { hash } from '../../src/tpm/hash.js';
import { RunningDaemon } from '../support/running-daemon.js';
import { digestOf, ISSUER, newKey, statement } from '../properties/fixture.js';

const { SHA256 } = TPM_ALG;
const run = promisify(execFile);
const POLICY = 'version: 1\npresent: {0-7: certified}\n';
const PROPERTIES = { 'boot.loader': true, 'os.level': 3 };

/** What a failing tpm2-tools command says on standard error. */
async function failing(command: Promise<unknown>): Promise<string> {
  const error: unknown = await command.then(
    () => assert.fail('it succeeded'),
    (reason: unknown) => reason,
  );
  return (error as { stderr: string }).stderr;
}

describe('sealing by properties', function () {
  this.timeout(120_000);
  const key = newKey();
  let daemon: RunningDaemon;
  const at = (name: string): string => join(daemon.root, name);

  before(async () => {
    daemon = await RunningDaemon.create();
    await writeFile(at('issuer.pub'), createPublicKey(key.pem).export({ type: 'spki', format: 'pem' }));
    const properties = { trust: [{ issuer: ISSUER, key: at('issuer.pub'), allowed: ['*'] }], host: { 'host.site': 'north' } };
    daemon.config = { ...daemon.config, properties, policyDirectory: at('policies') };
    await daemon.start();
    await add(statement(['loader a', 'loader b'], PROPERTIES, {}, key));
    await add(statement(['keys a', 'keys b'], { 'secure-boot': true }, {}, key));
  });
  after(async () => {
    await daemon.dispose();
  });

  async function add(envelope: string): Promise<void> {
    const { status, text } = await daemon.ask('POST', '/v1/properties/statements', { envelopes: [envelope] });
    assert.equal(status, 201, text);
  }

  async function ask(method: string, path: string, content?: unknown): Promise<Record<string, unknown>> {
    const { status, text } = await daemon.ask(method, path, content);
    assert.ok(status < 300, text);
    return JSON.parse(text) as Record<string, unknown>;
  }

  /** tpm2-tools in one guest; files are its own. */
  class Guest {
    private started = false;

    constructor(private readonly name: string) {}

    static async create(name: string, policy?: string): Promise<Guest> {
      await ask('POST', '/v1/guests', policy === undefined ? { name } : { name, policy });
      await mkdir(at(name), { recursive: true });
      return new Guest(name);
    }

    async tool(command: string, ...args: string[]): Promise<string> {
      const env = { ...process.env, TPM2TOOLS_TCTI: `swtpm:path=${join(daemon.config.runDir, 'guests', this.name, 'tpm.sock')}` };
      const { stdout } = await run(command, args, { env, cwd: at(this.name) });
      return stdout;
    }

    /** Power-cycles the guest, and measures what it boots. */
    async boot(loader: string, keys: string): Promise<void> {
      // Power that goes without a word counts as an attempt at the objects that were used.
      if (this.started) await this.tool('tpm2_shutdown', '-c');
      this.started = true;
      await ask('POST', `/v1/guests/${this.name}/reset`);
      await this.tool('tpm2_startup', '-c');
      await this.extend(4, loader);
      await this.extend(7, keys);
    }

    async extend(pcr: number, text: string): Promise<void> {
      await this.tool('tpm2_pcrextend', `${pcr.toString()}:sha256=${digestOf(SHA256, text).toString('hex')}`);
    }

    async pcr(index: number): Promise<Buffer> {
      await this.tool('tpm2_pcrread', '-Q', `sha256:${index.toString()}`, '-o', 'pcr.bin');
      return readFile(join(at(this.name), 'pcr.bin'));
    }

    async seal(): Promise<void> {
      await writeFile(join(at(this.name), 'secret'), 'a secret');
      await this.tool('tpm2_createprimary', '-Q', '-c', 'primary.ctx');
      await this.tool('tpm2_createpolicy', '-Q', '--policy-pcr', '-l', 'sha256:4,7', '-L', 'pcr.policy');
      const made = [
        '-L',
        'pcr.policy',
        '-i',
        'secret',
        '-u',
        'seal.pub',
        '-r',
        'seal.priv',
        '--creation-data',
        'creation',
        '-l',
        'sha256:4,7',
      ];
      await this.tool('tpm2_create', '-Q', '-C', 'primary.ctx', ...made);
      await this.tool('tpm2_flushcontext', '-t');
    }

    async unseal(): Promise<string> {
      await this.tool('tpm2_createprimary', '-Q', '-c', 'primary.ctx');
      await this.tool('tpm2_load', '-Q', '-C', 'primary.ctx', '-u', 'seal.pub', '-r', 'seal.priv', '-c', 'seal.ctx');
      await this.tool('tpm2_flushcontext', '-t');
      try {
        return await this.tool('tpm2_unseal', '-c', 'seal.ctx', '-p', 'pcr:sha256:4,7');
      } finally {
        await this.tool('tpm2_flushcontext', '-t');
        await this.tool('tpm2_flushcontext', '-l');
      }
    }
  }

  it('outlives the replacement of binaries by others with the same properties', async () => {
    const guest = await Guest.create('g1', POLICY);
    await guest.boot('loader a', 'keys a');
    const expected = hash(SHA256, Buffer.alloc(32), PropertySet.of(PROPERTIES).digest(SHA256));
    assert.deepEqual(await guest.pcr(4), expected);
    await guest.seal();
    assert.equal(await guest.unseal(), 'a secret');
    await guest.boot('loader b', 'keys b');
    assert.equal(await guest.unseal(), 'a secret');
    await guest.boot('loader c', 'keys b');
    assert.match(await failing(guest.unseal()), /PolicyPCR|policy check failed/i);
    await guest.boot('loader a', 'keys a');
    assert.equal(await guest.unseal(), 'a secret');
  });

  it('does not outlive it where digests are presented', async () => {
    const guest = await Guest.create('g2');
    await guest.boot('loader a', 'keys a');
    await guest.seal();
    assert.equal(await guest.unseal(), 'a secret');
    await guest.boot('loader b', 'keys a');
    assert.match(await failing(guest.unseal()), /policy check failed/i);
  });

  it('agrees in all that shows PCRs: PCR_Read, creation data, Quote, PCR_Event', async () => {
    const guest = await Guest.create('g3', POLICY);
    await guest.boot('loader a', 'keys a');
    await guest.tool('tpm2_pcrextend', `10:sha256=${digestOf(SHA256, 'application').toString('hex')}`);
    assert.deepEqual(await guest.pcr(10), hash(SHA256, Buffer.alloc(32), digestOf(SHA256, 'application')));
    await guest.seal();
    const pcrs = hash(SHA256, await guest.pcr(4), await guest.pcr(7));
    assert.ok((await readFile(join(at('g3'), 'creation'))).includes(pcrs));
    await guest.tool('tpm2_createek', '-Q', '-c', 'ek.ctx', '-G', 'ecc');
    await guest.tool('tpm2_createak', '-Q', '-C', 'ek.ctx', '-c', 'ak.ctx', '-G', 'ecc', '-g', 'sha256', '-s', 'ecdsa', '-u', 'ak.pub');
    await guest.tool('tpm2_flushcontext', '-t');
    // tpm2_quote itself compares the quoted digest with the PCRs that it reads.
    const quote = ['-l', 'sha256:4,7', '-q', 'abcd', '-m', 'quote', '-s', 'signature', '-o', 'pcrs', '-g', 'sha256'];
    await guest.tool('tpm2_quote', '-Q', '-c', 'ak.ctx', ...quote);
    assert.ok((await readFile(join(at('g3'), 'quote'))).includes(pcrs));
    await guest.tool('tpm2_checkquote', '-Q', '-u', 'ak.pub', '-m', 'quote', '-s', 'signature', '-f', 'pcrs', '-q', 'abcd', '-g', 'sha256');
    const before = await guest.pcr(5);
    await writeFile(join(at('g3'), 'event'), 'loader a');
    await guest.tool('tpm2_pcrevent', '-Q', '5', 'event');
    assert.deepEqual(await guest.pcr(5), hash(SHA256, before, PropertySet.of(PROPERTIES).digest(SHA256)));
  });

  it('refuses after a revocation, from the next reset on', async () => {
    const envelope = statement(['loader d'], PROPERTIES, {}, key);
    await add(envelope);
    const guest = await Guest.create('g4', POLICY);
    await guest.boot('loader a', 'keys a');
    await guest.seal();
    await guest.boot('loader d', 'keys a');
    assert.equal(await guest.unseal(), 'a secret');
    const list = issueRevocations(
      { issuer: ISSUER, number: 1, issued: new Date().toISOString(), revoked: [{ statement: statementIdOf(envelope), reason: 'CVE-1' }] },
      key,
    );
    await ask('POST', '/v1/properties/revocations', { envelope: list });
    assert.equal(await guest.unseal(), 'a secret');
    await guest.boot('loader d', 'keys a');
    assert.match(await failing(guest.unseal()), /policy check failed/i);
    await guest.boot('loader b', 'keys a');
    assert.equal(await guest.unseal(), 'a secret');
  });

  it('with unknown: refuse answers TPM_RC_POLICY_FAIL, and what was refused shows in the PCR', async () => {
    const guest = await Guest.create('g5', `${POLICY}unknown: refuse\n`);
    await guest.boot('loader a', 'keys a');
    const before = await guest.pcr(4);
    assert.match(await failing(guest.extend(4, 'loader c')), /policy check failed/i);
    assert.deepEqual(await guest.pcr(4), hash(SHA256, before, fixedValue(SHA256, 'refused')));
    await guest.extend(4, 'loader b');
  });

  it('presents the host: a PCR that is reset starts from the host again', async () => {
    const guest = await Guest.create('g6', 'version: 1\npresent: {16: platform, 23: platform}\nplatform: properties\n');
    await guest.tool('tpm2_startup', '-c');
    const start = hash(SHA256, Buffer.alloc(32), PropertySet.of({ 'host.site': 'north' }).digest(SHA256));
    assert.deepEqual(await guest.pcr(16), start);
    assert.deepEqual(await guest.pcr(0), Buffer.alloc(32));
    await guest.extend(16, 'something');
    assert.deepEqual(await guest.pcr(16), hash(SHA256, start, digestOf(SHA256, 'something')));
    await guest.tool('tpm2_pcrreset', '16');
    assert.deepEqual(await guest.pcr(16), start);
    assert.match(await failing(guest.tool('tpm2_pcrreset', '4')), /bad locality/i);
    assert.deepEqual(await guest.pcr(17), Buffer.alloc(32, 0xff));
  });

  it('keeps the vectors of before a change until the next reset', async () => {
    const guest = await Guest.create('g7', POLICY);
    await guest.boot('loader a', 'keys a');
    const before = await guest.pcr(4);
    const { changes, pending } = await ask('POST', '/v1/guests/g7/policy', { policy: 'version: 1\npresent: {7: certified}\n' });
    assert.deepEqual(changes, [{ path: 'present.0-6', from: 'certified', to: 'digest', effect: 'reset' }]);
    assert.equal(pending, true);
    assert.deepEqual(await guest.pcr(4), before);
    await guest.boot('loader a', 'keys a');
    assert.deepEqual(await guest.pcr(4), hash(SHA256, Buffer.alloc(32), digestOf(SHA256, 'loader a')));
    assert.equal((await ask('GET', '/v1/guests/g7/policy'))['pending'], false);
  });
});
