// A machine reaches vTPMs over lines: a virtio port, hvc, an ISA serial port, each a PTY of QEMU's, and a console that is a socket.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RunningDaemon } from '../daemon/running-daemon.js';
import { Machine, missingForQemu } from './machine.js';
import { serialInitramfs } from './serial-parts.js';

const LINES = [
  { guest: 'port', tcti: 'device:/dev/vport0p1', what: 'a virtio port, with the device: TCTI' },
  { guest: 'socket', tcti: 'device:/dev/vport0p2', what: 'a virtio port that is a console socket on the host' },
  { guest: 'hvc', tcti: 'cmd:exec relay /dev/hvc0', what: 'hvc, with a raw relay' },
  { guest: 'isa', tcti: 'cmd:exec relay /dev/ttyS2', what: 'an ISA serial port, with a raw relay' },
].map((line, index) => ({ ...line, digest: (index + 1).toString().padStart(64, '0') }));

describe('a machine with serial lines', function () {
  this.timeout(400_000);
  let daemon: RunningDaemon;
  let machine: Machine;
  let directory: string;

  before(async function () {
    if (missingForQemu() !== '') this.skip();
    directory = await mkdtemp(join(tmpdir(), 'tpmux-lines-'));
    daemon = await RunningDaemon.create();
    await daemon.start();
    await create('emulated', {});
    const pty = (id: string): string[] => ['-chardev', `pty,id=${id}`];
    machine = await Machine.start({
      firmware: 'seabios',
      device: 'tpm-crb',
      control: (await daemon.ask('GET', '/v1/guests/emulated')).body.control,
      directory,
      extra: [
        ...['-initrd', await serialInitramfs(directory, LINES), '-device', 'virtio-serial-pci'],
        ...[...pty('hvc'), '-device', 'virtconsole,chardev=hvc,nr=0'],
        ...[...pty('port'), '-device', 'virtserialport,chardev=port,nr=1,name=org.tpmux.0'],
        ...[...pty('isa'), '-device', 'isa-serial,chardev=isa,index=2'],
        ...['-chardev', `socket,id=socket,path=${join(directory, 'console.sock')},server=on,wait=off`],
        ...['-device', 'virtserialport,chardev=socket,nr=2,name=org.tpmux.1'],
      ],
    });
    const devices = await monitorOf(machine);
    for (const id of ['hvc', 'port', 'isa']) {
      const path = new RegExp(`${id}: filename=pty:(/dev/pts/\\d+)`).exec(devices)?.[1];
      assert.ok(path !== undefined, devices);
      await create(id, { serial: [path] });
    }
    await create('socket', { consoleSockets: [join(directory, 'console.sock')] });
    await consoleHas(/lines: ready/);
  });
  after(async () => {
    await (machine as Machine | undefined)?.kill();
    await (daemon as RunningDaemon | undefined)?.dispose();
    if ((directory as string | undefined) !== undefined) await rm(directory, { recursive: true });
  });

  const create = async (name: string, listen: object): Promise<void> => {
    const answer = await daemon.ask('POST', '/v1/guests', { name, ...listen });
    assert.equal(answer.status, 201, answer.text);
  };
  /** The monitor's socket is there a moment after QEMU has started. */
  const monitorOf = async (running: Machine): Promise<string> => {
    await sleep(1500);
    return running.monitor('info chardev');
  };
  const consoleHas = async (text: RegExp): Promise<string> => {
    for (let i = 0; i < 1200; i++) {
      const console = await machine.console();
      if (text.test(console)) return console;
      await sleep(100);
    }
    throw new Error(`not in time: ${String(text)}\n${await machine.console()}`);
  };

  for (const { guest, what } of LINES) {
    it(`uses ${what}`, async () => {
      const console = await consoleHas(new RegExp(`^${guest}: (done|failed)`, 'm'));
      assert.match(console, new RegExp(`^${guest}: done`, 'm'), console);
      assert.match(console, new RegExp(`^${guest}: random [0-9a-f]{64}`, 'm'));
      const { banks } = (await daemon.ask('GET', `/v1/guests/${guest}/pcrs?bank=sha256`)).body;
      const inside = new RegExp(`^${guest}: PCR .*0x([0-9A-F]{64})`, 'm').exec(console)?.[1];
      assert.equal(inside?.toLowerCase(), banks['sha256']?.[16]);
    });
  }

  it('leaves the lines open, and the TPM of the machine itself alone', async () => {
    for (const { guest } of LINES) {
      const { body } = await daemon.ask('GET', `/v1/guests/${guest}`);
      assert.deepEqual([body.lines.length, body.lines[0]?.open, body.lines[0]?.reason], [1, true, null]);
    }
    const { banks } = (await daemon.ask('GET', '/v1/guests/emulated/pcrs?bank=sha256')).body;
    assert.equal(banks['sha256']?.[16], '00'.repeat(32));
  });

  it('takes the lines with it when it ends', async () => {
    await machine.kill();
    for (const { guest } of LINES) {
      let { body } = await daemon.ask('GET', `/v1/guests/${guest}`);
      for (let i = 0; i < 100 && body.lines[0]?.open === true; i++) {
        await sleep(50);
        ({ body } = await daemon.ask('GET', `/v1/guests/${guest}`));
      }
      assert.deepEqual([body.lines[0]?.open, body.state], [false, 'running']);
    }
  });
});
