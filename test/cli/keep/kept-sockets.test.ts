// What a daemon does with descriptors that a service manager hands over and that are of no use, or wrong.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closeFd, ExchangeMemory, recvWithFds, socketPair } from '../../../src/native/index.js';
import { COMMAND_EXCHANGE } from '../../../src/transport/kept/connections.js';
import { TPMUX } from '../command-line.js';

const STRANGER = '11111111-2222-4333-8444-555555555555';

describe('descriptors that were kept', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-stale-'));
  });
  afterEach(async () => {
    await rm(root, { recursive: true });
  });

  /** Starts a daemon with these descriptors from 3 on, and gives what it logged until it served. */
  const serve = async (names: readonly string[], fds: readonly number[], pid = '$$'): Promise<string> => {
    const script = `LISTEN_PID=${pid}; export LISTEN_PID; exec "$@"`;
    const flags = ['serve', '--embedded-tpm', '--state-dir', join(root, 'state'), '--run-dir', join(root, 'run')];
    const child = spawn('/bin/sh', ['-c', script, 'sh', ...TPMUX, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe', ...fds],
      env: {
        ...process.env,
        TPMUX_CONFIG: '/dev/null',
        NOTIFY_SOCKET: join(root, 'nobody'),
        LISTEN_FDS: names.length.toString(),
        LISTEN_FDNAMES: names.join(':'),
      },
    });
    let log = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
    const ended = once(child, 'exit');
    assert.ok(child.stdout);
    const [said] = (await Promise.race([once(child.stdout, 'data'), ended])) as [Buffer | number | null];
    assert.equal(String(said), 'ready\n', log);
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null], log);
    return log;
  };

  it('are closed with a reason, if their guest is not there, or they have other names', async () => {
    const [a, b] = socketPair();
    const exchange = ExchangeMemory.create(COMMAND_EXCHANGE, true);
    const log = await serve([`${STRANGER}.data.1`, `${STRANGER}.data.1`, 'stored', `${STRANGER}.listen.7`], [a, exchange.fd ?? -1, b, b]);
    for (const name of [`${STRANGER}.data.1`, 'stored', `${STRANGER}.listen.7`]) {
      assert.ok(log.includes(`a kept socket was closed name=${name} reason=there is no such guest, or it is off`), log);
    }
    closeFd(b);
    assert.equal(recvWithFds(a, 10)?.data.length, 0, 'the daemon has none of them any more');
    closeFd(a);
    exchange.close();
  });

  it('do not matter if they are announced and not there, or are for somebody else', async () => {
    const log = await serve([`${STRANGER}.data.1`, `${STRANGER}.data.2`], []);
    assert.match(log, /descriptor 3 was announced and is not there/);
    assert.doesNotMatch(await serve([`${STRANGER}.data.1`], [], '1'), /announced|kept socket/);
  });
});
