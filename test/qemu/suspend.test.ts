// A machine that is suspended to RAM and woken up: its kernel sends TPM2_Shutdown(STATE), its firmware TPM2_Startup(STATE).
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RunningDaemon } from '../support/running-daemon.js';
import { waitFor } from '../support/wait-for.js';
import { Machine, missingForQemu } from './machine.js';

describe('a machine that is suspended to RAM', function () {
  this.timeout(240_000);
  let daemon: RunningDaemon;
  let machine: Machine | undefined;

  before(async function () {
    const missing = missingForQemu();
    if (missing !== '') {
      console.error(`    suspended machines are not tested: ${missing} not found (scripts/setup installs what is needed)`);
      this.skip();
    }
    daemon = await RunningDaemon.create();
    await daemon.start();
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') console.error(daemon.log.slice(-20).join('\n'));
    await machine?.kill();
    machine = undefined;
  });
  after(async () => {
    await (daemon as RunningDaemon | undefined)?.dispose();
  });

  const monitorSays = async (running: Machine, command: string, wanted: RegExp): Promise<void> => {
    let said = '';
    await waitFor(
      async () => {
        said = await running.monitor(command);
        return wanted.test(said);
      },
      () => `${command}: ${said}`,
    );
  };

  for (const [firmware, device] of [
    ['seabios', 'tpm-tis'],
    ['ovmf', 'tpm-crb'],
  ] as const) {
    it(`goes on with its PCRs (${firmware}, ${device})`, async () => {
      assert.equal((await daemon.ask('POST', '/v1/guests', { name: device })).status, 201);
      const directory = join(daemon.root, device);
      await mkdir(directory);
      const { control } = (await daemon.ask('GET', `/v1/guests/${device}`)).body;
      const running = await Machine.start({ firmware, device, control, directory });
      machine = running;
      await running.booted();
      const clock = async (): Promise<number[]> => {
        const text = await running.run('tpm2 readclock');
        return ['reset_count', 'restart_count'].map((name) => Number(new RegExp(`${name}: (\\d+)`).exec(text)?.[1]));
      };
      const digest = '11'.repeat(32);
      // The platform's profile has PCRs 0 to 15 kept, and 16 (debug) begin anew.
      await running.run(`tpm2 pcrextend 15:sha256=${digest}`);
      await running.run('tpm2 startauthsession -Q --policy-session -S saved');
      const pcrs = await running.run('tpm2 pcrread sha256');
      await running.run(`tpm2 pcrextend 16:sha256=${digest}`);
      const [resets = 0, restarts = 0] = await clock();

      running.send('echo mem >/sys/power/state; echo woken up');
      await monitorSays(running, 'info status', /suspended/);
      await running.monitor('system_wakeup');
      await running.says(/woken up/, 60);

      assert.equal(await running.run('tpm2 pcrread sha256'), pcrs);
      assert.deepEqual(await clock(), [resets, restarts + 1]);
      await running.run('tpm2 policypcr -Q -S saved -l sha256:15 -L policy && tpm2 flushcontext saved');
      assert.match(await running.run('dmesg'), /PM: suspend exit/);
    });
  }
});
