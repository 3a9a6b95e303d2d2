// The life of policies in a daemon: classes, changes and what they change when, refusals and the way out.
import assert from 'node:assert/strict';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CreatePrimary, NV_DefineSpace, PCR_Extend, Sign, Startup } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_ST, TPM_SU, TPMA_NV } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { codeOf, frame, none, password, run, type Execute } from '../../support/frames.js';
import { eccTemplate } from '../../support/templates.js';
import { RunningDaemon } from '../../support/running-daemon.js';

const ECDSA_SHA256 = { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } } as const;
const NO_TICKET = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;

interface PolicyAnswer {
  readonly hash: string | null;
  readonly reason: string | null;
  readonly pending: boolean;
  readonly limits: Readonly<Record<string, number>>;
  readonly changes: readonly { readonly path: string; readonly effect: string }[];
  readonly guests: readonly {
    readonly guest: string;
    readonly changes: readonly { readonly path: string }[];
    readonly reason: string | null;
  }[];
  readonly classes: readonly string[];
  readonly problems: readonly string[];
  readonly entries: readonly { readonly event: string; readonly guest?: string; readonly detail?: string }[];
  readonly error: { readonly code: string; readonly what: string; readonly why: string; readonly hint: string; readonly exit: number };
}

describe('policies of a daemon', function () {
  this.timeout(60_000);
  let daemon: RunningDaemon;
  const at = (name: string): string => join(daemon.root, 'policies', name);
  const ask = async (method: string, path: string, content?: unknown): Promise<PolicyAnswer & { readonly status: number }> => {
    const { status, text } = await daemon.ask(method, path, content);
    return { ...(JSON.parse(text) as PolicyAnswer), status };
  };
  const stateOf = async (name: string): Promise<string> => (await daemon.ask('GET', `/v1/guests/${name}`)).body.state;

  beforeEach(async () => {
    daemon = await RunningDaemon.create();
    daemon.config = { ...daemon.config, policyDirectory: join(daemon.root, 'policies'), limits: { 'nv-indices': 100 } };
    await mkdir(join(daemon.root, 'policies'));
    await writeFile(at('web.yaml'), 'version: 1\npresent: {0-7: certified}\n');
    await daemon.start();
  });
  afterEach(async () => {
    await daemon.dispose();
  });

  it('a guest follows its class, from its next reset on where a vector changes, and the audit log tells', async () => {
    assert.equal((await ask('POST', '/v1/guests', { name: 'g1', policy: 'version: 1\nclass: web\nlimits: {nv-bytes: 9000}' })).status, 201);
    const before = await ask('GET', '/v1/guests/g1/policy');
    assert.deepEqual([before.limits['nvBytes'], before.limits['nvIndices'], before.pending], [9000, 100, false]);
    await writeFile(
      at('web.yaml'),
      'version: 1\npresent: {0-7: certified, 10: certified}\nattest: {reveal: none}\nlimits: {nv-bytes: 10000}\n',
    );
    const reload = await ask('POST', '/v1/policies/reload');
    assert.deepEqual(reload.classes, ['web']);
    assert.deepEqual(
      reload.guests.map(({ guest, changes }) => [guest, changes.map(({ path }) => path)]),
      [['g1', ['present.10', 'attest.reveal']]],
    );
    const after = await ask('GET', '/v1/guests/g1/policy');
    assert.deepEqual([after.limits['nvBytes'], after.pending], [9000, true]);
    await daemon.ask('POST', '/v1/guests/g1/reset');
    assert.equal((await ask('GET', '/v1/guests/g1/policy')).pending, false);
    const { entries } = await ask('GET', '/v1/audit?guest=g1');
    const note = entries.find(({ event }) => event === 'policy-changed');
    assert.equal(note?.detail, `${before.hash ?? ''} -> ${after.hash ?? ''}: present.10, attest.reveal`);
    assert.deepEqual((await ask('POST', '/v1/policies/reload')).guests, []);
  });

  it('a guest whose class is gone is refused with the way out; others run', async () => {
    await ask('POST', '/v1/guests', { name: 'g1', policy: 'version: 1\nclass: web' });
    await ask('POST', '/v1/guests', { name: 'g2' });
    await rm(at('web.yaml'));
    const { guests } = await ask('POST', '/v1/policies/reload');
    assert.match(guests[0]?.reason ?? '', /there is no class web/);
    assert.equal(await stateOf('g1'), 'running');
    await daemon.stop();
    await daemon.start();
    assert.deepEqual([await stateOf('g1'), await stateOf('g2')], ['failed', 'running']);
    const { reason } = (await daemon.ask('GET', '/v1/guests/g1')).body;
    assert.match(
      reason ?? '',
      /the policy of guest g1 : class: there is no class web, which would be the file .*web\.yaml \(put the file right and run 'tpmux policy reload'\)/,
    );
    const { entries } = await ask('GET', '/v1/audit?guest=g1');
    assert.equal(entries.at(-1)?.event, 'guest-refused');
    await writeFile(at('web.yaml'), 'version: 1\npresent: {0-8: certified}\n');
    assert.deepEqual(
      (await ask('POST', '/v1/policies/reload')).guests[0]?.changes.map(({ path }) => path),
      ['present.8'],
    );
    assert.equal(await stateOf('g1'), 'running');
  });

  it('a class that is wrong is named with its place; one that is changed while no daemon runs counts at the next start', async () => {
    await ask('POST', '/v1/guests', { name: 'g1', policy: 'version: 1\nclass: web' });
    await writeFile(at('web.yaml'), 'version: 1\npresent: {0-7: Certified}\n');
    const { problems, classes } = await ask('POST', '/v1/policies/reload');
    assert.deepEqual(classes, []);
    assert.match(problems[0] ?? '', /reading the policy .*web\.yaml: present\.0-7: Expected the name of a provider/);
    await daemon.stop();
    await writeFile(at('web.yaml'), 'version: 1\n');
    await daemon.start();
    const { entries } = await ask('GET', '/v1/audit?guest=g1');
    assert.match(entries.find(({ event }) => event === 'policy-changed')?.detail ?? '', /: present\.0-7, providers$/);
  });

  it('the engines of keys are fixed when a guest is created', async () => {
    await ask('POST', '/v1/guests', { name: 'g1', policy: 'version: 1\nclass: web' });
    const refused = await ask('POST', '/v1/guests/g1/policy', { policy: 'version: 1\nkeys: {owner: software}' });
    assert.equal(refused.status, 403);
    assert.deepEqual([refused.error.code, refused.error.exit], ['policy_fixed', 3]);
    assert.match(refused.error.why, /keys\.owner is "hardware" since the guest was created/);
    await writeFile(at('web.yaml'), 'version: 1\nkeys: {types: {rsa: software}}\n');
    assert.match((await ask('POST', '/v1/policies/reload')).guests[0]?.reason ?? '', /keys\.types\.rsa/);
    assert.equal((await ask('GET', '/v1/guests/g1/policy')).pending, false);
    await daemon.stop();
    await daemon.start();
    assert.equal(await stateOf('g1'), 'failed');
    assert.equal((await ask('POST', '/v1/guests/g1/policy', { policy: 'version: 1' })).status, 200);
    await daemon.ask('POST', '/v1/guests/g1/start');
    assert.equal(await stateOf('g1'), 'running');
  });

  it('limits count at once', async () => {
    await ask('POST', '/v1/guests', { name: 'g1' });
    const socket = createConnection(join(daemon.config.runDir, 'guests', 'g1', 'tpm.sock'));
    const send = async (bytes: Buffer): Promise<number> => {
      socket.write(bytes);
      return codeOf(((await once(socket, 'data')) as [Buffer])[0]);
    };
    const define = (nvIndex: number): Buffer =>
      frame(
        NV_DefineSpace,
        {
          authHandle: TPM_RH.OWNER,
          auth: Buffer.alloc(0),
          publicInfo: {
            nvIndex,
            nameAlg: TPM_ALG.SHA256,
            attributes: TPMA_NV.OWNERWRITE | TPMA_NV.OWNERREAD,
            authPolicy: Buffer.alloc(0),
            dataSize: 8,
          },
        },
        [password()],
      );
    assert.equal(await send(frame(Startup, { startupType: TPM_SU.CLEAR })), 0);
    for (let i = 0; i < 9; i++) assert.equal(await send(define(0x01500000 + i)), 0);
    const { changes } = await ask('POST', '/v1/guests/g1/policy', { policy: 'version: 1\nlimits: {nv-indices: 8, loaded-sessions: 3}' });
    assert.ok(changes.some(({ path, effect }) => path === 'limits.nv-indices' && effect === 'now'));
    assert.equal(await send(define(0x01500009)), TPM_RC.NV_SPACE);
    await ask('POST', '/v1/guests/g1/policy', { policy: null });
    assert.equal(await send(define(0x01500009)), 0);
    socket.destroy();
  });

  it('a provider that fails shows in status, metrics and the audit log, once', async () => {
    await daemon.stop();
    const module = fileURLToPath(new URL('../../properties/providers/packages/misbehaving.mjs', import.meta.url));
    daemon.config = { ...daemon.config, properties: { packages: [{ name: 'bad', module }] } };
    await daemon.start();
    await ask('POST', '/v1/guests', { name: 'g1', policy: 'version: 1\npresent: {1: bad}' });
    const socket = createConnection(join(daemon.config.runDir, 'guests', 'g1', 'tpm.sock'));
    const send = async (bytes: Buffer): Promise<number> => {
      socket.write(bytes);
      return codeOf(((await once(socket, 'data')) as [Buffer])[0]);
    };
    const extend = frame(PCR_Extend, { pcrHandle: 1, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }] });
    for (let boot = 0; boot < 2; boot++) {
      await daemon.ask('POST', '/v1/guests/g1/reset');
      assert.equal(await send(frame(Startup, { startupType: TPM_SU.CLEAR })), 0);
      assert.equal(await send(extend), 0);
    }
    socket.destroy();
    assert.match((await daemon.ask('GET', '/metrics')).text, /tpmux_guest_provider_failures_total\{guest="g1",provider="bad"\} 2\n/);
    assert.match((await daemon.ask('GET', '/v1/status')).text, /"failures":\[\{"guest":"g1","provider":"bad","failures":2\}\]/);
    const { entries } = await ask('GET', '/v1/audit?guest=g1');
    const notes = entries.filter(({ event }) => event === 'provider-failed');
    assert.deepEqual(
      notes.map(({ detail }) => detail),
      ['bad: no luck today'],
    );
  });

  it('guests that are created without a policy get the default class, and keep it', async () => {
    await daemon.stop();
    daemon.config = { ...daemon.config, defaultPolicy: 'web' };
    await daemon.start();
    assert.equal((await ask('POST', '/v1/guests', { name: 'g1' })).status, 201);
    const { hash } = await ask('GET', '/v1/guests/g1/policy');
    await daemon.stop();
    daemon.config = { ...daemon.config, defaultPolicy: undefined };
    await daemon.start();
    assert.equal((await ask('GET', '/v1/guests/g1/policy')).hash, hash);
  });

  it('anchored keys are there again after a restart and after a backup was brought back', async () => {
    await ask('POST', '/v1/guests', { name: 'g1', policy: 'version: 1\nkeys: {anchored: all}' });
    const primary = async (): Promise<string> => {
      const socket = createConnection(join(daemon.config.runDir, 'guests', 'g1', 'tpm.sock'));
      const execute: Execute = async (bytes) => {
        socket.write(bytes);
        return ((await once(socket, 'data')) as [Buffer])[0];
      };
      const started = codeOf(await execute(frame(Startup, { startupType: TPM_SU.CLEAR })));
      assert.ok(started === 0 || started === TPM_RC.INITIALIZE);
      const request = { primaryHandle: TPM_RH.OWNER, inSensitive: { userAuth: none, data: none }, outsideInfo: none, creationPCR: [] };
      const { objectHandle, name } = await run(execute, CreatePrimary, { ...request, inPublic: eccTemplate() });
      const sign = { keyHandle: objectHandle, digest: Buffer.alloc(32, 7), inScheme: ECDSA_SHA256, validation: NO_TICKET };
      await run(execute, Sign, sign);
      socket.destroy();
      return name.toString('hex');
    };
    const name = await primary();
    await daemon.stop();
    await daemon.start();
    assert.equal(await primary(), name);
    const { backup } = JSON.parse((await daemon.ask('POST', '/v1/guests/g1/export')).text) as { backup: string };
    await daemon.ask('DELETE', '/v1/guests/g1');
    assert.equal((await daemon.ask('POST', '/v1/import', { backup })).status, 201);
    assert.equal((await daemon.ask('POST', '/v1/guests/g1/start')).body.state, 'running');
    assert.equal(await primary(), name);
  });

  it('two requests for one name make one guest', async () => {
    const create = (): Promise<{ readonly status: number }> => ask('POST', '/v1/guests', { name: 'g1', policy: 'version: 1\nclass: web' });
    const statuses = (await Promise.all([create(), create()])).map(({ status }) => status);
    assert.deepEqual(statuses.sort(), [201, 409]);
  });

  it('a policy that the host cannot serve makes no guest', async () => {
    const create = (policy: string) => ask('POST', '/v1/guests', { name: 'g1', policy });
    assert.deepEqual([(await create('version: 3')).status, (await create('version: 3')).error.exit], [400, 2]);
    const missing = await create('version: 1\npresent: {0: mine}');
    assert.match(missing.error.why, /there is no property provider 'mine'/);
    const host = await create('version: 1\nplatform: properties\npresent: {0: platform}');
    assert.match(host.error.why, /the configuration has no properties\.host/);
    assert.match((await create('version: 1\nclass: other')).error.why, /there is no class other/);
    assert.equal((await daemon.ask('GET', '/v1/guests')).body.guests.length, 0);
  });
});
