// Debian kernels under QEMU, measured by SeaBIOS and OVMF, on guests that share one chip.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { RunningDaemon } from '../support/running-daemon.js';
import { Machine, missingForQemu, type Firmware, type TpmDevice } from './machine.js';

const run = promisify(execFile);
const EVENT_LOG = '/sys/kernel/security/tpm0/binary_bios_measurements';
/** PCRs that firmware and boot loader measure into; IMA's, 10, is not in the firmware's log. */
const MEASURED = [0, 1, 2, 3, 4, 5, 6, 7];

/** The SHA-256 PCRs in what `tpm2 pcrread` or `tpm2 eventlog` writes, by index. */
function pcrsIn(text: string): Map<number, string> {
  const section =
    /^(?:pcrs:\n)?\s*sha256:\n((?:\s+\d+\s*: 0x[0-9a-fA-F]+\n?)+)/m.exec(text.slice(Math.max(0, text.indexOf('pcrs:'))))?.[1] ?? '';
  return new Map(
    [...section.matchAll(/(\d+)\s*: 0x([0-9a-fA-F]+)/g)].map(([, index, value]) => [Number(index), value?.toLowerCase() ?? '']),
  );
}

describe('virtual machines', function () {
  this.timeout(400_000);
  let daemon: RunningDaemon;
  let count = 0;
  const machines: Machine[] = [];

  before(async function () {
    const missing = missingForQemu();
    if (missing !== '') {
      console.error(`    virtual machines are not tested: ${missing} not found (scripts/setup installs what is needed)`);
      this.skip();
    }
    daemon = await RunningDaemon.create();
    await daemon.start();
  });
  after(async () => {
    for (const machine of machines) await machine.kill();
    await (daemon as RunningDaemon | undefined)?.dispose();
  });
  afterEach(function () {
    if (this.currentTest?.state === 'failed') console.error(daemon.log.slice(-20).join('\n'));
  });

  const start = async (guest: string, firmware: Firmware, device: TpmDevice, snapshots = false): Promise<Machine> => {
    const directory = join(daemon.root, `machine${(++count).toString()}`);
    await mkdir(directory);
    const { control } = (await daemon.ask('GET', `/v1/guests/${guest}`)).body;
    const machine = await Machine.start({ firmware, device, control, directory, snapshots });
    machines.push(machine);
    return machine;
  };
  const pcrsOf = async (machine: Machine): Promise<Map<number, string>> => pcrsIn(await machine.run('tpm2 pcrread sha256'));
  const pcrsOutside = async (guest: string): Promise<readonly string[]> =>
    (await daemon.ask('GET', `/v1/guests/${guest}/pcrs?bank=sha256`)).body.banks['sha256'] ?? [];

  /** PCRs are measured, the same inside and outside, and what the event log says. */
  const checkMeasurements = async (machine: Machine, guest: string): Promise<void> => {
    const pcrs = await pcrsOf(machine);
    const outside = await pcrsOutside(guest);
    assert.equal(pcrs.size, 24);
    for (const [index, value] of pcrs) assert.equal(value, outside[index]);
    for (const index of MEASURED) assert.match(pcrs.get(index) ?? '', /[1-9a-f]/, `PCR ${index.toString()} is zero`);
    const replayed = pcrsIn(await machine.run(`tpm2 eventlog ${EVENT_LOG}`));
    assert.ok(replayed.size >= MEASURED.length, `the event log has ${replayed.size.toString()} PCRs`);
    for (const [index, value] of replayed) assert.equal(value, pcrs.get(index), `PCR ${index.toString()}`);
  };

  /** What programs do with a TPM. */
  const useTpm = async (machine: Machine): Promise<void> => {
    await machine.run('tpm2 createprimary -Q -C o -G ecc -c primary.ctx');
    await machine.run(
      'tpm2 create -Q -C primary.ctx -G ecc -u key.pub -r key.priv -c key.ctx && tpm2 readpublic -Q -c key.ctx -f pem -o key.pem',
    );
    await machine.run(
      'echo message >m && tpm2 sign -Q -c key.ctx -g sha256 -o sig m && tpm2 verifysignature -c key.ctx -g sha256 -m m -s sig',
    );
    await machine.run(
      'tpm2 createek -Q -c ek.ctx -G ecc -u ek.pub && tpm2 createak -Q -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pem -f pem',
    );
    await machine.run('tpm2 quote -Q -c ak.ctx -l sha256:0,1,2,3,4,5,6,7,16 -q 1234 -m quote -s quote.sig -o quote.pcrs');
    await machine.run('tpm2 checkquote -Q -u ak.pem -m quote -s quote.sig -f quote.pcrs -q 1234');
    await machine.run('tpm2 createpolicy -Q --policy-pcr -l sha256:0,7,16 -L policy');
    await machine.run('printf secret | tpm2 create -Q -C primary.ctx -L policy -i- -u sealed.pub -r sealed.priv -c sealed.ctx');
    assert.equal(await machine.run('tpm2 unseal -c sealed.ctx -p pcr:sha256:0,7,16'), 'secret');
    await machine.run(
      'tpm2 nvdefine -Q 0x1500010 -C o -s 8 -a "ownerread|ownerwrite" && printf 12345678 | tpm2 nvwrite -Q 0x1500010 -C o -i-',
    );
    assert.equal(await machine.run('tpm2 nvread 0x1500010 -C o -s 8'), '12345678');
  };

  let a: Machine;
  let b: Machine;

  it('boot at the same time, measured by SeaBIOS (TIS) and OVMF (CRB)', async () => {
    const policy = 'version: 1\nsnapshots: allow\n';
    for (const name of ['a', 'b']) assert.equal((await daemon.ask('POST', '/v1/guests', { name, policy })).status, 201);
    a = await start('a', 'seabios', 'tpm-tis', true);
    b = await start('b', 'ovmf', 'tpm-crb');
    await Promise.all([a.booted(), b.booted()]);
    await checkMeasurements(a, 'a');
    await checkMeasurements(b, 'b');
  });

  it('use keys, quotes, sealed data and NV at the same time', async () => {
    await Promise.all([useTpm(a), useTpm(b)]);
  });

  it('leave a log of what was extended', async () => {
    const { entries } = JSON.parse((await daemon.ask('GET', '/v1/guests/b/pcr-log')).text) as {
      entries: { kind: string; pcr: number | null; locality: number; digests: Record<string, string> }[];
    };
    assert.equal(entries[0]?.kind, 'startup');
    assert.ok(entries.some(({ kind, pcr, digests }) => kind === 'extend' && pcr === 7 && digests['sha256']?.length === 64));
  });

  it('go back to a snapshot', async () => {
    await a.run('tpm2 pcrextend 16:sha256=1111111111111111111111111111111111111111111111111111111111111111');
    await a.run('tpm2 startauthsession -Q --policy-session -S session.ctx && tpm2 policypcr -Q -S session.ctx -l sha256:16 -L policy.1');
    const saved = await pcrsOf(a);
    assert.equal(await a.monitor('savevm first'), '');
    await a.run(
      'tpm2 pcrextend 16:sha256=2222222222222222222222222222222222222222222222222222222222222222 23:sha256=1111111111111111111111111111111111111111111111111111111111111111',
    );
    await a.run('printf abcdefgh | tpm2 nvwrite -Q 0x1500010 -C o -i- && tpm2 flushcontext session.ctx');
    assert.notDeepEqual(await pcrsOf(a), saved);
    assert.equal(await a.monitor('loadvm first'), '');
    assert.deepEqual(await pcrsOf(a), saved);
    assert.equal(await a.run('tpm2 nvread 0x1500010 -C o -s 8'), '12345678');
    await a.run('tpm2 policypcr -Q -S session.ctx -l sha256:16 -L policy.2 && tpm2 flushcontext session.ctx');
    await a.run('tpm2 sign -Q -c key.ctx -g sha256 -o sig.2 m && tpm2 verifysignature -c key.ctx -g sha256 -m m -s sig.2');
  });

  it('start from Startup(CLEAR) after a reset from inside', async () => {
    const count = async (): Promise<number> => Number(/reset_count: (\d+)/.exec(await a.run('tpm2 readclock'))?.[1]);
    const before = await count();
    const booted = a.booted();
    a.send('reboot -f');
    await booted;
    assert.ok((await count()) > before);
    const pcrs = await pcrsOf(a);
    assert.equal(pcrs.get(16), '00'.repeat(32));
    await checkMeasurements(a, 'a');
    assert.equal(await a.run('tpm2 nvread 0x1500010 -C o -s 8'), '12345678');
  });

  it('leave a clean TPM when they power off, or are killed', async () => {
    a.send('poweroff -f');
    await a.ended();
    await b.run('tpm2 pcrextend 16:sha256=1111111111111111111111111111111111111111111111111111111111111111');
    await b.kill();
    for (const name of ['a', 'b']) {
      const { tcti, powered } = (await daemon.ask('GET', `/v1/guests/${name}`)).body;
      assert.equal(powered, true);
      await run('tpm2_startup', ['-c', '-T', tcti]);
      const { stdout } = await run('tpm2_pcrread', ['-T', tcti, 'sha256:0,16']);
      assert.deepEqual([...pcrsIn(stdout).values()], ['00'.repeat(32), '00'.repeat(32)]);
      const { stdout: data } = await run('tpm2_nvread', ['-T', tcti, '0x1500010', '-C', 'o', '-s', '8']);
      assert.equal(data, '12345678');
    }
  });

  it('boot again with the other firmware and device', async () => {
    a = await start('a', 'ovmf', 'tpm-tis');
    b = await start('b', 'seabios', 'tpm-crb');
    await Promise.all([a.booted(), b.booted()]);
    await checkMeasurements(a, 'a');
    await checkMeasurements(b, 'b');
    assert.equal(await b.run('tpm2 nvread 0x1500010 -C o -s 8'), '12345678');
    await Promise.all([a.kill(), b.kill()]);
  });
});
