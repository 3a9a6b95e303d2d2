// tpm2-tools reach a guest's TPM over the simulator's protocol, a serial line and a console's socket.
import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { RunningDaemon } from '../support/running-daemon.js';
import { waitFor } from '../support/wait-for.js';

const run = promisify(execFile);
const PORT = 33_000 + (process.pid % 1000) * 2;

describe('tpm2-tools on a guest', function () {
  this.timeout(120_000);
  let daemon: RunningDaemon;
  let at: (name: string) => string;
  const children: ChildProcess[] = [];

  before(async () => {
    daemon = await RunningDaemon.create();
    await daemon.start();
    at = (name) => join(daemon.root, name);
  });
  after(async () => {
    for (const child of children) child.kill();
    await daemon.dispose();
  });

  const tool = async (tcti: string, name: string, ...args: string[]): Promise<string> => {
    const { stdout } = await run(`tpm2_${name}`, args, { env: { ...process.env, TPM2TOOLS_TCTI: tcti }, cwd: daemon.root });
    return stdout;
  };
  const create = async (name: string, listen: object): Promise<void> => {
    const answer = await daemon.ask('POST', '/v1/guests', { name, ...listen });
    assert.equal(answer.status, 201, answer.text);
  };
  const socat = async (...args: string[]): Promise<void> => {
    const child = spawn('socat', args, { stdio: ['ignore', 'ignore', 'inherit'] });
    children.push(child);
    await once(child, 'spawn');
  };
  const lineOpen = async (name: string): Promise<boolean> =>
    (await daemon.ask('GET', `/v1/guests/${name}`)).body.lines.every(({ open }) => open);

  /** Extends and reads a PCR, creates a key, signs, checks the signature. */
  const use = async (tcti: string): Promise<void> => {
    await tool(tcti, 'startup', '-c');
    await tool(tcti, 'pcrextend', `16:sha256=${'ab'.repeat(32)}`);
    assert.match(await tool(tcti, 'pcrread', 'sha256:16'), /0x[0-9A-F]{64}/);
    await tool(tcti, 'createprimary', '-C', 'o', '-G', 'ecc', '-c', 'p.ctx');
    await tool(tcti, 'create', '-C', 'p.ctx', '-G', 'ecc', '-u', 'k.pub', '-r', 'k.priv', '-c', 'k.ctx');
    await tool(tcti, 'getrandom', '-o', 'message', '24');
    await tool(tcti, 'sign', '-c', 'k.ctx', '-g', 'sha256', '-o', 'signature', 'message');
    await tool(tcti, 'verifysignature', '-c', 'k.ctx', '-g', 'sha256', '-m', 'message', '-s', 'signature');
  };

  it('over the simulator protocol, which also switches its power', async () => {
    await create('sim', { mssim: PORT });
    const tcti = `mssim:host=127.0.0.1,port=${PORT.toString()}`;
    await use(tcti);
    // Hostile clients beside it: garbage, half a header, 4 GiB.
    for (const bytes of ['deadbeefdeadbeef', '00000008', '0000000800ffffffff']) {
      for (const port of [PORT, PORT + 1]) {
        const socket = connect(port, '127.0.0.1');
        socket.on('error', () => undefined);
        socket.write(Buffer.from(bytes, 'hex'));
      }
    }
    await tool(tcti, 'getrandom', '8');
    const platform = connect(PORT + 1, '127.0.0.1');
    platform.write(Buffer.from('000000020000000100000014', 'hex'));
    await once(platform.resume(), 'close');
    await tool(tcti, 'startup', '-c');
    assert.match(await tool(tcti, 'pcrread', 'sha256:16'), /0x0{64}/);
  });

  it('over a serial line that is a terminal with a wire of two PTYs', async () => {
    await create('line', { serial: [at('host-tty')] });
    await socat(`PTY,link=${at('host-tty')},rawer`, `PTY,link=${at('guest-tty')},rawer`);
    await waitFor(() => existsSync(at('guest-tty')));
    await waitFor(() => lineOpen('line'));
    await use(`cmd:socat -b65536 STDIO ${at('guest-tty')},rawer`);
    assert.match(await tool(`device:${at('guest-tty')}`, 'getrandom', '--hex', '8'), /^[0-9a-f]{16}/);
  });

  it('over a console socket', async () => {
    await create('console', { consoleSockets: [at('console.sock')] });
    await socat(`UNIX-LISTEN:${at('console.sock')},fork`, `PTY,link=${at('console-tty')},rawer`);
    await waitFor(() => existsSync(at('console-tty')));
    await waitFor(() => lineOpen('console'));
    await use(`cmd:socat -b65536 STDIO ${at('console-tty')},rawer`);
  });

  it('not over what another guest has', async () => {
    const refused = async (listen: object, code: string): Promise<void> => {
      const answer = await daemon.ask('POST', '/v1/guests', { name: 'other', ...listen });
      assert.equal(answer.body.error.code, code, answer.text);
    };
    await refused({ mssim: PORT + 1 }, 'port_taken');
    await refused({ tcp: PORT - 1 }, 'port_taken');
    await refused({ tcp: 20_000, mssim: 20_001 }, 'port_taken');
    await refused({ serial: [at('host-tty')] }, 'line_taken');
    await refused({ serial: ['/dev/ttyS9', '/dev/ttyS9'] }, 'line_taken');
    for (const listen of [
      { serial: ['ttyS0'] },
      { serial: Array(9).fill('/x') },
      { consoleSockets: [`/${'x'.repeat(107)}`] },
      { mssim: 0 },
      { mssim: 65535 },
    ]) {
      await refused(listen, 'bad_request');
    }
  });

  it('not over a device where the kernel has none to offer', async function () {
    if (existsSync('/dev/vtpmx')) this.skip();
    const answer = await daemon.ask('POST', '/v1/guests/sim/device');
    assert.equal(answer.status, 501);
    assert.deepEqual([answer.body.error.code, answer.body.error.exit], ['no_device', 5]);
    assert.match(answer.body.error.hint, /modprobe tpm_vtpm_proxy/);
  });
});
