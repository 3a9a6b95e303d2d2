import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { performance } from 'node:perf_hooks';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { startRelay, type Relay } from '../support/relay.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';

const NEVER_MS = 100_000;
const module = JSON.stringify(new URL('../../src/native/index.ts', import.meta.url).href);
const addon = JSON.stringify(new URL('../../build/Release/tpmux.node', import.meta.url).pathname);
const getRandom = `Buffer.from('80010000000c0000017b0010', 'hex')`;

describe('the end of a process that uses a Tcti', () => {
  let swtpm: Swtpm;
  let relay: Relay;
  before(async () => {
    swtpm = await startSwtpm();
    relay = await startRelay(swtpm, { delay: () => NEVER_MS });
  });
  after(async () => {
    await relay.stop();
    await swtpm.stop();
  });

  /** Runs a script in a node of its own and gives what it printed; rejects unless it exits with 0 by itself. */
  async function run(tcti: string, script: string): Promise<string> {
    const source = `import { Tcti } from ${module}; const tcti = await Tcti.open(${JSON.stringify(tcti)}); ${script}`;
    const options = { timeout: 20_000, cwd: new URL('../..', import.meta.url) };
    const { stdout, stderr } = await promisify(execFile)('node', ['--import', 'tsx', '--input-type=module', '-e', source], options);
    assert.equal(stderr, '');
    return stdout;
  }

  it('comes by itself with an open, idle connection', async () => {
    assert.equal(await run(swtpm.tcti, `console.log((await tcti.transceive(${getRandom})).length);`), '28\n');
  });

  it('waits for a command in flight', async () => {
    assert.equal(await run(swtpm.tcti, `void tcti.transceive(${getRandom}).then((r) => console.log(r.length));`), '28\n');
  });

  it('is not held up by a command that was closed in flight', async () => {
    const start = performance.now();
    const output = await run(
      relay.tcti,
      `const answer = tcti.transceive(${getRandom}).catch((e) => e.message);
       await new Promise((r) => setTimeout(r, 100)); await tcti.close(); console.log(await answer);`,
    );
    assert.match(output, /is closed/);
    assert.ok(performance.now() - start < 15_000);
  });

  it('is not held up by process.exit with a command in flight', async () => {
    assert.equal(await run(relay.tcti, `void tcti.transceive(${getRandom}); setTimeout(() => process.exit(0), 100);`), '');
  });

  it('does not touch a worker that has gone', async () => {
    const log = process.env['TSS2_LOG'];
    process.env['TSS2_LOG'] ??= 'all+none';
    for (let i = 0; i < 20; i++) {
      const source = `
        const tcti = new (require(${addon}).Tcti)();
        tcti.open(${JSON.stringify(relay.tcti)}).then(() => { void tcti.transceive(${getRandom}); require('node:worker_threads').parentPort.postMessage(1); });`;
      const worker = new Worker(source, { eval: true });
      await once(worker, 'message');
      await worker.terminate();
      // The thread left behind now gets an end of file, and has nobody to tell.
      relay.dropConnections();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    if (log === undefined) delete process.env['TSS2_LOG'];
  });
});
