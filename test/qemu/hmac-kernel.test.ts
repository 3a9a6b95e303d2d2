// A kernel with CONFIG_TCG_TPM2_HMAC (Linux, drivers/char/tpm/tpm2-sessions.c): it talks to its TPM in HMAC sessions that are salted
// with a primary key of the null hierarchy, with parameter encryption, and measures with them.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RunningDaemon } from '../support/running-daemon.js';
import { hmacKernel, type Kernel } from './debian-kernel.js';
import { Machine, missingForQemu, type TpmDevice } from './machine.js';

const IMA_LIST = '/sys/kernel/security/ima/ascii_runtime_measurements';
/** How many programs are measured. */
const MEASURED = 5;

describe('a kernel that talks to its TPM in encrypted sessions', function () {
  this.timeout(240_000);
  let daemon: RunningDaemon;
  let machine: Machine | undefined;
  let kernel: Kernel;

  before(async function () {
    const missing = missingForQemu();
    const found = missing === '' ? await hmacKernel() : `${missing} not found (scripts/setup installs what is needed)`;
    if (typeof found === 'string') {
      console.error(`    kernels with CONFIG_TCG_TPM2_HMAC are not tested: ${found}`);
      this.skip();
    }
    kernel = found;
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

  /** How often a guest has executed commands, by name. */
  const calls = async (guest: string): Promise<(command: string) => number> => {
    const { commands } = (await daemon.ask('GET', `/v1/guests/${guest}/counters`)).body;
    return (name) => commands.find(({ command }) => command === name)?.calls ?? 0;
  };

  /** PCR 10 as the list of what IMA measured says, SHA-1. */
  const replay = (list: string): string => {
    let pcr = Buffer.alloc(20);
    for (const line of list.split('\n')) {
      const digest = Buffer.from(/^10 ([0-9a-f]{40}) /.exec(line)?.[1] ?? '', 'hex');
      // What could not be measured has a digest of zeros, and is extended with ones.
      pcr = createHash('sha1')
        .update(pcr)
        .update(digest.every((byte) => byte === 0) ? Buffer.alloc(20, 0xff) : digest)
        .digest();
    }
    return pcr.toString('hex');
  };

  const boot = async (guest: string, device: TpmDevice): Promise<Machine> => {
    assert.equal((await daemon.ask('POST', '/v1/guests', { name: guest })).status, 201);
    const directory = join(daemon.root, guest);
    await mkdir(directory);
    const { control } = (await daemon.ask('GET', `/v1/guests/${guest}`)).body;
    machine = await Machine.start({ firmware: 'seabios', device, control, directory, kernel, append: 'ima_policy=tcb' });
    await machine.booted();
    return machine;
  };

  for (const device of ['tpm-crb', 'tpm-tis'] as const) {
    it(`boots and measures with ${device}`, async () => {
      assert.match(kernel.config, /^(CONFIG_TCG_TPM2_HMAC=y)?$/m);
      const inside = await boot(device, device);
      const nullName = await inside.run('cat /sys/class/tpm/tpm0/null_name');
      assert.match(nullName, /^000b[0-9a-f]{64}$/);

      const before = await calls(device);
      assert.ok(before('CreatePrimary') >= 1 && before('ContextSave') >= 1, 'the kernel made no key for its sessions');
      // IMA measures what runs, but on a tmpfs such as that of the initramfs nothing.
      await inside.run('mkdir /ram && mount -t ramfs ramfs /ram');
      for (let i = 0; i < MEASURED; i++) {
        // The kernel keeps its session until a program opens the TPM.
        await inside.run('tpm2 getrandom --hex 8');
        await inside.run(`mkdir /ram/${i.toString()} && cp /bin/busybox /ram/${i.toString()}/true && /ram/${i.toString()}/true`);
      }
      const after = await calls(device);
      const added = (name: string): number => after(name) - before(name);
      // For each session the key is loaded.
      assert.deepEqual(['PCR_Extend', 'StartAuthSession', 'ContextLoad'].map(added), [MEASURED, MEASURED, MEASURED]);

      const list = await inside.run(`cat ${IMA_LIST}`);
      assert.equal(list.split('\n').length, MEASURED + 1, list);
      const pcr = /10: 0x([0-9A-F]{40})/.exec(await inside.run('tpm2 pcrread sha1:10'))?.[1];
      assert.equal(pcr?.toLowerCase(), replay(list));

      // User space goes on beside it, and the kernel's key is the same at the end.
      await inside.run(`tpm2 pcrextend 16:sha256=${'11'.repeat(32)} && tpm2 getrandom --hex 16`);
      assert.equal(await inside.run('cat /sys/class/tpm/tpm0/null_name'), nullName);
      assert.doesNotMatch(await inside.run('dmesg'), /tpm.*(error|fail|integrity|does not match)/i);
    });
  }

  it('gets another key for its sessions after a reset, for the null hierarchy has another seed', async () => {
    const inside = await boot('reset', 'tpm-crb');
    const before = await inside.run('cat /sys/class/tpm/tpm0/null_name');
    const booted = inside.booted();
    inside.send('reboot -f');
    await booted;
    assert.notEqual(await inside.run('cat /sys/class/tpm/tpm0/null_name'), before);
  });
});
