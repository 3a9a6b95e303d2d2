import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { Worker } from 'node:worker_threads';
import { Tcti } from '../../src/native/index.js';
import { startRelay, type Relay } from '../support/relay.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { waitFor } from '../support/wait-for.js';

const module = JSON.stringify(new URL('../../src/native/index.ts', import.meta.url).href);
const addon = JSON.stringify(new URL('../../build/Release/tpmux.node', import.meta.url).pathname);
const getRandom = Buffer.from('80010000000c0000017b0010', 'hex');
const getRandomThere = `Buffer.from('${getRandom.toString('hex')}', 'hex')`;

const threads = (): number => readdirSync('/proc/self/task').length;

describe('the end of a process that uses a Tcti', () => {
  let swtpm: Swtpm;
  /** Answers nothing. */
  let relay: Relay;
  before(async () => {
    swtpm = await startSwtpm();
    relay = await startRelay(swtpm, { delay: () => Infinity });
  });
  after(async () => {
    await relay.stop();
    await swtpm.stop();
  });

  /**
   * Runs a script in a node of its own, where `go` is a promise that resolves when a command is held back at the relay. Gives what
   * it printed and how it ended, which it must do while the relay still has not answered.
   */
  async function run(tcti: string, script: string): Promise<{ out: string; err: string; code: number | null }> {
    const source = `
      import { once } from 'node:events';
      import { Tcti } from ${module};
      const go = once(process.stdin, 'data');
      const tcti = await Tcti.open(${JSON.stringify(tcti)});
      ${script}`;
    const options = { cwd: new URL('../..', import.meta.url), timeout: 50_000 };
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', source], options);
    const ended = once(child, 'close') as Promise<[number | null]>;
    const [out, err] = [text(child.stdout), text(child.stderr)];
    child.stdin.on('error', () => undefined);
    if (tcti === relay.tcti) await waitFor(() => relay.held === 1 || child.exitCode !== null);
    child.stdin.end('go');
    const [code] = await ended;
    return { out: await out, err: await err, code };
  }

  it('comes by itself with an open, idle connection', async () => {
    const result = await run(swtpm.tcti, `console.log((await tcti.transceive(${getRandomThere})).length);`);
    assert.deepEqual(result, { out: '28\n', err: '', code: 0 });
  });

  it('waits for a command in flight', async () => {
    const result = await run(swtpm.tcti, `void tcti.transceive(${getRandomThere}).then((r) => console.log(r.length));`);
    assert.deepEqual(result, { out: '28\n', err: '', code: 0 });
  });

  it('is not held up by a command that was closed in flight', async () => {
    const { out, err, code } = await run(
      relay.tcti,
      `const answer = tcti.transceive(${getRandomThere}).catch((e) => e.message);
       await go; await tcti.close(); console.log(await answer);`,
    );
    assert.match(out, /is closed/);
    assert.deepEqual({ err, code }, { err: '', code: 0 });
  });

  it('is not held up by process.exit with a command in flight', async () => {
    const result = await run(relay.tcti, `void tcti.transceive(${getRandomThere}); await go; process.exit(7);`);
    assert.deepEqual(result, { out: '', err: '', code: 7 });
  });

  it('does not touch a worker that has gone', async () => {
    const log = process.env['TSS2_LOG'];
    process.env['TSS2_LOG'] ??= 'all+none';
    await waitFor(() => relay.held === 0);
    const before = threads();
    for (let i = 0; i < 20; i++) {
      const source = `
        const tcti = new (require(${addon}).Tcti)();
        tcti.open(${JSON.stringify(relay.tcti)}).then(() => tcti.transceive(${getRandomThere}));`;
      const worker = new Worker(source, { eval: true });
      await waitFor(() => relay.held === 1);
      assert.equal(await worker.terminate(), 1);
      assert.ok(threads() > before, 'the thread of the connection is not left behind');
      // It now gets an end of file, and has nobody to tell.
      relay.dropConnections();
      await waitFor(() => threads() <= before && relay.held === 0);
    }
    if (log === undefined) delete process.env['TSS2_LOG'];
    const tcti = await Tcti.open(swtpm.tcti);
    assert.equal((await tcti.transceive(getRandom)).length, 28);
    await tcti.close();
  });
});
