import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { openHostStore } from '../../support/host-store.js';
import { RunningDaemon } from '../../support/running-daemon.js';

const run = promisify(execFile);

describe('a daemon with its control API', () => {
  let daemon: RunningDaemon;
  before(async () => {
    daemon = await RunningDaemon.create();
    await daemon.start();
  });
  after(() => daemon.dispose());

  const tool = async (guest: string, name: string, ...args: string[]): Promise<string> => {
    const socket = join(daemon.config.runDir, 'guests', guest, 'tpm.sock');
    return (await run(name, args, { env: { ...process.env, TPM2TOOLS_TCTI: `swtpm:path=${socket}` } })).stdout;
  };

  it('has private sockets and state', async () => {
    const { runDir, stateDir } = daemon.config;
    assert.equal((await stat(join(runDir, 'control.sock'))).mode & 0o777, 0o600);
    for (const path of [join(runDir, 'guests'), join(runDir, 'chip'), join(stateDir, 'store'), join(stateDir, 'embedded-tpm')]) {
      assert.equal((await stat(path)).mode & 0o777, 0o700, path);
    }
  });

  it('says loudly that the embedded TPM is none', () => {
    assert.ok(daemon.log.some((line) => line.startsWith('warn EMBEDDED SOFTWARE TPM: this is NOT a hardware TPM')));
  });

  it('creates a guest that tpm2-tools can use at once', async () => {
    const { status, body } = await daemon.ask('POST', '/v1/guests', { name: 'web1' });
    assert.equal(status, 201);
    assert.equal(body.state, 'running');
    assert.equal(body.powered, true);
    await tool('web1', 'tpm2_startup', '-c');
    await tool('web1', 'tpm2_pcrextend', `16:sha256=${'00'.repeat(31)}01`);
    const read = await tool('web1', 'tpm2_pcrread', 'sha256:16');
    const { body: pcrs } = await daemon.ask('GET', '/v1/guests/web1/pcrs?bank=sha256');
    assert.equal(pcrs.banks['sha256']?.length, 24);
    assert.ok(read.toLowerCase().includes(pcrs.banks['sha256'][16] ?? '?'));
  });

  it('counts commands of guests and of the chip', async () => {
    const { body } = await daemon.ask('GET', '/v1/guests/web1/counters');
    const extend = body.commands.find((row) => row.command === 'PCR_Extend');
    assert.deepEqual([extend?.calls, extend?.hardwareCommands], [1, 0]);
    const { text } = await daemon.ask('GET', '/metrics');
    assert.match(text, /tpmux_guests\{state="running"\} 1/);
    assert.match(text, /tpmux_guest_commands_total\{guest="web1",command="PCR_Extend"\} 1/);
    assert.match(text, /tpmux_chip_commands_total\{command="Unseal"\} 2/);
  });

  it('keeps guests apart', async () => {
    await daemon.ask('POST', '/v1/guests', { name: 'web2' });
    await tool('web2', 'tpm2_startup', '-c');
    const { body } = await daemon.ask('GET', '/v1/guests/web2/pcrs');
    assert.equal(body.banks['sha256']?.[16], '00'.repeat(32));
    assert.deepEqual(
      (await daemon.ask('GET', '/v1/guests')).body.guests.map((guest) => guest.name),
      ['web1', 'web2'],
    );
  });

  it('stops, starts and resets', async () => {
    assert.equal((await daemon.ask('POST', '/v1/guests/web2/stop')).body.state, 'off');
    assert.equal(existsSync(join(daemon.config.runDir, 'guests', 'web2')), false);
    assert.equal((await daemon.ask('POST', '/v1/guests/web2/stop')).body.state, 'off');
    const off = await daemon.ask('POST', '/v1/guests/web2/reset');
    assert.equal(off.status, 409);
    assert.equal(off.body.error.code, 'guest_not_running');
    assert.equal((await daemon.ask('POST', '/v1/guests/web2/start')).body.state, 'running');
    await tool('web2', 'tpm2_startup', '-c');
    await tool('web2', 'tpm2_pcrextend', `16:sha256=${'11'.repeat(32)}`);
    assert.equal((await daemon.ask('POST', '/v1/guests/web2/reset')).body.powered, true);
    await assert.rejects(tool('web2', 'tpm2_getrandom', '4'), /0x100/);
    await tool('web2', 'tpm2_startup', '-c');
    assert.equal((await daemon.ask('GET', '/v1/guests/web2/pcrs')).body.banks['sha256']?.[16], '00'.repeat(32));
  });

  it('takes operations on one guest in order', async () => {
    const actions = ['stop', 'start', 'stop', 'start', 'reset', 'start'];
    const answers = await Promise.all(actions.map((action) => daemon.ask('POST', `/v1/guests/web2/${action}`)));
    assert.ok(answers.every(({ status }) => status === 200));
    assert.equal((await daemon.ask('GET', '/v1/guests/web2')).body.state, 'running');
  });

  it('lets one of two creates of a name win', async () => {
    const both = await Promise.all([1, 2].map(() => daemon.ask('POST', '/v1/guests', { name: 'twin', start: false })));
    assert.deepEqual(both.map(({ status }) => status).sort(), [201, 409]);
    await daemon.ask('DELETE', '/v1/guests/twin');
  });

  it('leaves nothing of a guest that cannot be started', async () => {
    const name = 'long'.repeat(15);
    const runDir = daemon.config.runDir;
    assert.equal((await daemon.ask('POST', '/v1/guests', { name: 'p1', tcp: 21_871 })).status, 201);
    const clash = await daemon.ask('POST', '/v1/guests', { name: 'p2', tcp: 21_872 });
    assert.equal(clash.body.error.code, 'port_taken');
    await daemon.ask('DELETE', '/v1/guests/p1');
    const tooLong = join(runDir, 'guests', name, 'tpm.sock.ctrl').length > 107;
    const answer = await daemon.ask('POST', '/v1/guests', { name });
    assert.equal(answer.status, tooLong ? 500 : 201);
    if (!tooLong) await daemon.ask('DELETE', `/v1/guests/${name}`);
    assert.deepEqual((await readdir(join(runDir, 'guests'))).sort(), ['web1', 'web2']);
  });

  it('answers what it cannot take with an error that says why', async () => {
    const failing = [
      ['GET', '/v1/guests/none', 404, 'guest_not_found'],
      ['GET', '/v1/nothing', 404, 'no_such_path'],
      ['PUT', '/v1/guests', 405, 'no_such_method'],
      ['GET', '/v1/guests/web1/pcrs?bank=md5', 400, 'no_bank'],
      ['GET', '/v1/guests/%zz', 400, 'bad_request'],
    ] as const;
    for (const [method, path, status, code] of failing) {
      const answer = await daemon.ask(method, path);
      assert.deepEqual([answer.status, answer.body.error.code], [status, code], path);
      assert.notEqual(answer.body.error.why, '');
    }
    for (const name of ['', '.', '..', 'a/b', 'a b', 'ä', 'x'.repeat(64)]) {
      assert.equal((await daemon.ask('POST', '/v1/guests', { name })).body.error.code, 'bad_name', name);
    }
    for (const body of [{}, { name: 'x', port: 1 }, { name: 'x', tcp: 65_535 }, { name: 'x', start: 'no' }, []]) {
      assert.equal((await daemon.ask('POST', '/v1/guests', body)).body.error.code, 'bad_request');
    }
    assert.equal((await daemon.askRaw('POST', '/v1/guests', '{"name"')).status, 400);
    assert.match((await daemon.askRaw('POST', '/v1/guests', `{"name":"${'x'.repeat(17_000_000)}"}`)).text, /more than 16777216 bytes/);
    assert.equal((await daemon.ask('POST', '/v1/guests', { name: 'x', policy: 'a: 1' })).status, 400);
    assert.match((await daemon.ask('GET', '/v1/status')).text, /"guests":\{"total":2,/);
  });

  it('checks the chip', async () => {
    const { body } = await daemon.ask('GET', '/v1/doctor');
    assert.ok(body.checks.length >= 8);
    assert.ok(body.checks.every(({ result }) => result === 'ok'));
  });

  it('refuses a second daemon on its directories', async () => {
    await assert.rejects(openHostStore(join(daemon.config.stateDir, 'store')), /another tpmux daemon/);
    const second = await RunningDaemon.create();
    const config = { ...second.config, runDir: daemon.config.runDir };
    await assert.rejects(
      Object.assign(Object.create(RunningDaemon.prototype) as RunningDaemon, second, { config }).start(),
      /using the run directory .* : another tpmux daemon uses it/,
    );
    await second.dispose();
    assert.equal((await daemon.ask('GET', '/v1/status')).status, 200);
  });

  it('ends in order, and the next one starts what ran', async () => {
    await daemon.ask('POST', '/v1/guests/web2/stop');
    await tool('web1', 'tpm2_nvdefine', '0x1500016', '-s', '4', '-a', 'ownerread|ownerwrite');
    await daemon.stop();
    assert.equal(existsSync(join(daemon.config.runDir, 'control.sock')), false);
    await daemon.start();
    const { body } = await daemon.ask('GET', '/v1/guests');
    assert.deepEqual(
      body.guests.map(({ name, state }) => [name, state]),
      [
        ['web1', 'running'],
        ['web2', 'off'],
      ],
    );
    await tool('web1', 'tpm2_startup', '-c');
    assert.match(await tool('web1', 'tpm2_nvreadpublic'), /0x1500016/);
  });

  it('keeps the reason of a guest that cannot be started, and runs the others', async () => {
    const { id } = (await daemon.ask('GET', '/v1/guests/web1')).body;
    await daemon.stop();
    await daemon.withStore(async (store) => {
      const meta = store.guests().find((guest) => guest.id === id);
      assert.ok(meta !== undefined);
      await store.addGuest(meta, Buffer.from('{}'));
      for (const other of store.guests()) await store.updateGuest({ ...other, autostart: true });
    });
    await daemon.start();
    const { body } = await daemon.ask('GET', '/v1/guests');
    assert.deepEqual(
      body.guests.map(({ state }) => state),
      ['failed', 'running'],
    );
    assert.match(body.guests[0]?.reason ?? '', /its record 'key-blobs' has a bad field version/);
    const pcrs = await daemon.ask('GET', '/v1/guests/web1/pcrs');
    assert.equal(pcrs.status, 409);
    assert.match(pcrs.body.error.why, /could not be started/);
    assert.equal((await daemon.ask('DELETE', '/v1/guests/web1')).status, 200);
  });
});
