// A machine reaches vTPMs over lines: a virtio port, hvc, an ISA serial port, each a PTY of QEMU's, and a console that is a socket.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RunningDaemon } from '../support/running-daemon.js';
import { waitFor } from '../support/wait-for.js';
import { debianKernel } from './debian-kernel.js';
import { Machine, missingForQemu } from './machine.js';
import { serialInitramfs } from './serial-parts.js';

const LINES = [
  { guest: 'port', tcti: 'device:/dev/vport0p1', what: 'a virtio port, with the device: TCTI' },
  { guest: 'socket', tcti: 'device:/dev/vport0p2', what: 'a virtio port that is a console socket on the host' },
  { guest: 'hvc', tcti: 'cmd:exec tpm-relay /dev/hvc0', what: 'hvc, with the relay' },
  { guest: 'isa', tcti: 'cmd:exec tpm-relay /dev/ttyS2', what: 'an ISA serial port, with the relay' },
].map((line, index) => ({ ...line, digest: (index + 1).toString().padStart(64, '0') }));

/** How long one program may take in the machine, in seconds. */
const TIMEOUT = 60;

describe('a machine with serial lines', function () {
  this.timeout(240_000);
  let daemon: RunningDaemon;
  let machine: Machine;
  let directory: string;

  before(async function () {
    const missing = missingForQemu();
    if (missing !== '') {
      console.error(`    serial lines of machines are not tested: ${missing} not found (scripts/setup installs what is needed)`);
      this.skip();
    }
    directory = await mkdtemp(join(tmpdir(), 'tpmux-lines-'));
    daemon = await RunningDaemon.create();
    await daemon.start();
    await create('emulated', {});
    const kernel = await debianKernel();
    const pty = (id: string): string[] => ['-chardev', `pty,id=${id}`];
    machine = await Machine.start({
      firmware: 'seabios',
      device: 'tpm-crb',
      control: (await daemon.ask('GET', '/v1/guests/emulated')).body.control,
      directory,
      kernel,
      initrd: await serialInitramfs(directory, kernel),
      extra: [
        ...['-device', 'virtio-serial-pci'],
        ...[...pty('hvc'), '-device', 'virtconsole,chardev=hvc,nr=0'],
        ...[...pty('port'), '-device', 'virtserialport,chardev=port,nr=1,name=org.tpmux.0'],
        // An interrupt of its own: ISA devices that share one lose some.
        ...[...pty('isa'), '-device', 'isa-serial,chardev=isa,index=2,irq=5'],
        ...['-chardev', `socket,id=socket,path=${join(directory, 'console.sock')},server=on,wait=off`],
        ...['-device', 'virtserialport,chardev=socket,nr=2,name=org.tpmux.1'],
      ],
    });
    const devices = await machine.monitor('info chardev');
    for (const id of ['hvc', 'port', 'isa']) {
      const path = new RegExp(`${id}: filename=pty:(/dev/pts/\\d+)`).exec(devices)?.[1];
      assert.ok(path !== undefined, devices);
      await create(id, { serial: [path] });
    }
    await create('socket', { consoleSockets: [join(directory, 'console.sock')] });
    await machine.booted();
    await machine.run('while [ ! -c /dev/vport0p2 ]; do sleep 0.2; done');
    for (const { guest } of LINES) await lineIs(guest, true);
  });
  afterEach(function () {
    if (this.currentTest?.state === 'failed') console.error(daemon.log.slice(-30).join('\n'));
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
  const lineIs = async (guest: string, open: boolean): Promise<void> => {
    let lines: unknown;
    await waitFor(
      async () => {
        const { body } = await daemon.ask('GET', `/v1/guests/${guest}`);
        lines = body.lines;
        return body.lines[0]?.open === open;
      },
      () => `the line of ${guest}: ${JSON.stringify(lines)}`,
    );
  };
  /** Runs tpm2-tools in the machine, one after the other; what the last one writes. */
  const tpm2 = async (tcti: string, ...commands: string[]): Promise<string> => {
    let output = '';
    for (const command of commands) {
      output = await machine.run(`TPM2TOOLS_TCTI='${tcti}' timeout ${TIMEOUT.toString()} tpm2 ${command}`, TIMEOUT + 10);
    }
    return output;
  };

  for (const { guest, tcti, digest, what } of LINES) {
    it(`uses ${what}`, async () => {
      await tpm2(tcti, 'startup -c', `pcrextend 16:sha256=${digest}`);
      const inside = /0x([0-9A-F]{64})/.exec(await tpm2(tcti, 'pcrread sha256:16'))?.[1];
      const { banks } = (await daemon.ask('GET', `/v1/guests/${guest}/pcrs?bank=sha256`)).body;
      assert.equal(inside?.toLowerCase(), banks['sha256']?.[16]);
      assert.notEqual(inside, '0'.repeat(64));
      // A response in many pieces.
      assert.match(await tpm2(tcti, 'getcap commands'), /TPM2_CC_PolicyAuthorizeNV/);
      await machine.run('echo message >m');
      await tpm2(
        tcti,
        'createprimary -Q -C o -G ecc -c p.ctx',
        'create -Q -C p.ctx -G ecc -u k.pub -r k.priv -c k.ctx',
        'sign -Q -c k.ctx -g sha256 -o s m',
        'verifysignature -Q -c k.ctx -g sha256 -m m -s s',
      );
      // Each program has a relay of its own, and takes over from the one before.
      const numbers = new Set<string>();
      for (let i = 0; i < 5; i++) numbers.add(await tpm2(tcti, 'getrandom --hex 32'));
      assert.equal(numbers.size, 5);
      for (const number of numbers) assert.match(number, /[0-9a-f]{64}$/);
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
      await lineIs(guest, false);
      assert.equal((await daemon.ask('GET', `/v1/guests/${guest}`)).body.state, 'running');
    }
  });
});
