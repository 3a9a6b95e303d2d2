// /dev/vtpmx of a real kernel: tpmux runs inside a machine, on /dev/tpm0, which is itself a guest of the tpmux outside, and makes a
// TPM device for a guest of its own.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RunningDaemon } from '../support/running-daemon.js';
import { compiledTpmux } from '../cli/compiled.js';
import { debianKernel } from './debian-kernel.js';
import { initramfsWith, placeDrivers, placeProgram } from './initramfs.js';
import { Machine, missingForQemu } from './machine.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const ADDONS = [
  'build/Release/tpmux.node',
  'node_modules/better-sqlite3/build/Release/better_sqlite3.node',
  `node_modules/@serialport/bindings-cpp/prebuilds/linux-${process.arch}/@serialport+bindings-cpp.glibc.node`,
];
/** Sources and objects of the addons, and what is for people. */
const NOT_RUN = /\/(better-sqlite3|bindings-cpp)\/(deps|src|build|prebuilds)$|\.(ts|mts|cts|map|md)$/;

describe('a TPM device of the host', function () {
  this.timeout(400_000);
  let daemon: RunningDaemon;
  let machine: Machine | undefined;

  before(async function () {
    // The kernel gives a TPM 0.75 s for most commands: tpmux in a machine without KVM needs a fast host, with nothing else to do.
    const missing = missingForQemu();
    const reason = process.env['TPMUX_TEST_DEVICE'] !== '1' ? 'TPMUX_TEST_DEVICE=1 is not set' : missing && `${missing} not found`;
    if (reason !== '') {
      console.error(`    /dev/vtpmx is not tested: ${reason}`);
      this.skip();
    }
    const kernel = await debianKernel();
    daemon = await RunningDaemon.create();
    await daemon.start();
    assert.equal((await daemon.ask('POST', '/v1/guests', { name: 'host' })).status, 201);
    const directory = join(daemon.root, 'machine');
    await mkdir(directory);
    const { control } = (await daemon.ask('GET', '/v1/guests/host')).body;
    const initrd = await initramfsWith(join(directory, 'initramfs'), async (root) => {
      await placeDrivers(root, kernel);
      await placeTpmux(root);
    });
    machine = await Machine.start({ firmware: 'seabios', device: 'tpm-crb', control, directory, kernel, initrd, memory: 1024 });
    await machine.booted();
    await machine.run('insmod /drivers/tpm_vtpm_proxy.ko && ls /dev/vtpmx');
  });
  afterEach(async function () {
    if (this.currentTest?.state !== 'failed') return;
    console.error(daemon.log.slice(-20).join('\n'));
    console.error(await machine?.run('cat log; dmesg | tail -n 20', 60).catch(String));
  });
  after(async () => {
    await machine?.kill();
    await (daemon as RunningDaemon | undefined)?.dispose();
  });

  const run = (line: string, seconds?: number): Promise<string> => machine?.run(line, seconds) ?? Promise.reject(new Error('no machine'));
  const tpmux = (line: string): Promise<string> => run(`node /tpmux/dist/cli/main.js ${line} --run-dir /tmp/run`);
  const serve = async (): Promise<void> => {
    machine?.send('node /tpmux/dist/cli/main.js serve --tcti device:/dev/tpm0 --state-dir /tmp/state --run-dir /tmp/run >ready 2>>log &');
    await run('i=0; while ! grep -q ready ready; do sleep 1; i=$((i + 1)); test $i -lt 100; done', 120);
  };
  /** Programs use the device. */
  const use = async (device: string): Promise<void> => {
    const tcti = `export TPM2TOOLS_TCTI=device:${device.replace('tpm', 'tpmrm')}`;
    await run(`i=0; while [ ! -c ${device.replace('tpm', 'tpmrm')} ]; do sleep 0.2; i=$((i + 1)); test $i -lt 100; done`);
    await run(`(${tcti}; tpm2 createprimary -Q -C o -G ecc -c p.ctx && tpm2 create -Q -C p.ctx -G ecc -u k.pub -r k.priv -c k.ctx)`);
    await run(`(${tcti}; echo m >m; tpm2 sign -Q -c k.ctx -g sha256 -o s m && tpm2 verifysignature -c k.ctx -g sha256 -m m -s s)`);
  };

  it('is made, used, and taken away', async () => {
    await serve();
    await tpmux('guest create ci');
    const device = await tpmux('guest attach ci --device');
    assert.match(device, /^\/dev\/tpm[1-9]$/);
    await use(device);
    await run(`TPM2TOOLS_TCTI=device:${device} tpm2 pcrextend 16:sha256=${'11'.repeat(32)}`);
    const inside = /0x([0-9A-F]{64})/.exec(await run(`TPM2TOOLS_TCTI=device:${device} tpm2 pcrread sha256:16`))?.[1] ?? '';
    assert.ok((await tpmux('pcr read ci')).includes(inside));
    assert.match(await tpmux('guest attach ci --format docker'), new RegExp(`--device ${device}:/dev/tpm0`));
    await tpmux('guest stop ci');
    await run(`test ! -e ${device}`);
  });

  it('is there again after each start of the guest, and of the daemon', async () => {
    await tpmux('guest start ci');
    const first = await run('ls /dev/tpm[1-9]');
    await use(first);
    await run('kill -TERM $(pidof node) && while pidof node; do sleep 0.2; done; test ! -e /dev/tpmrm1');
    await serve();
    await use(await run('ls /dev/tpm[1-9]'));
    assert.match(await run('cat log'), /device made/);
    await tpmux('guest attach ci --no-device');
    await run('! ls /dev/tpm[1-9]');
  });
});

/** Node, the compiled program and the packages that it needs. */
async function placeTpmux(root: string): Promise<void> {
  compiledTpmux();
  const from = (path: string): string => join(ROOT, path);
  const to = (path: string): string => join(root, 'tpmux', path);
  await placeProgram(root, process.execPath);
  for (const addon of ADDONS) {
    // For the libraries that they need.
    await placeProgram(root, from(addon));
    await mkdir(dirname(to(addon)), { recursive: true });
    await cp(from(addon), to(addon));
  }
  await cp(from('package.json'), to('package.json'));
  await cp(from('dist'), to('dist'), { recursive: true, filter: (path) => !path.endsWith('.map') });
  const { packages } = JSON.parse(await readFile(from('package-lock.json'), 'utf8')) as { packages: Record<string, { dev?: boolean }> };
  for (const [path, { dev }] of Object.entries(packages)) {
    // What is in a package's own node_modules comes with it.
    if (dev === true || !/^node_modules\/(@[^/]+\/)?[^/]+$/.test(path) || !existsSync(from(path))) continue;
    await cp(from(path), to(path), { recursive: true, filter: (file) => !NOT_RUN.test(file) });
  }
}
