import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { randomBytes, pbkdf2 } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Tcti, TctiError, TSS2_TCTI_RC } from '../../src/native/index.js';
import { startRelay, type Relay } from '../support/relay.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';

const getRandom = Buffer.from('80010000000c0000017b0010', 'hex');
const SLOW_MS = 600;

const failsWith =
  (code: number) =>
  (error: unknown): boolean =>
    error instanceof TctiError && error.code === code;

describe('Tcti with a slow chip', () => {
  let swtpm: Swtpm;
  let relay: Relay;
  let wait = SLOW_MS;
  before(async () => {
    swtpm = await startSwtpm();
    relay = await startRelay(swtpm, { delay: () => wait });
  });
  beforeEach(() => {
    wait = SLOW_MS;
    relay.clear();
  });
  after(async () => {
    await relay.stop();
    await swtpm.stop();
  });

  it('blocks neither the event loop nor the thread pool, with more chips waiting than the pool has threads', async () => {
    const chips = await Promise.all(
      Array.from({ length: 6 }, async () => {
        const chip = await startSwtpm();
        const slow = await startRelay(chip, { delay: () => SLOW_MS });
        return { chip, slow, tcti: await Tcti.open(slow.tcti) };
      }),
    );
    const answers = Promise.all(chips.map(({ tcti }) => tcti.transceive(getRandom)));
    const state = { answered: false };
    void answers.then(() => {
      state.answered = true;
    });
    const start = performance.now();
    await readFile('/etc/hostname');
    await promisify(pbkdf2)('x', randomBytes(8), 10, 16, 'sha256');
    assert.ok(performance.now() - start < SLOW_MS / 2, 'the thread pool waited for the chips');
    let longestGap = 0;
    for (let last = performance.now(); !state.answered; last = performance.now()) {
      await delay(5);
      longestGap = Math.max(longestGap, performance.now() - last);
    }
    assert.ok(longestGap < SLOW_MS / 2, `the event loop stood still for ${longestGap.toFixed(0)} ms`);
    for (const answer of await answers) assert.equal(answer.length, 28);
    for (const { chip, slow, tcti } of chips) {
      await tcti.close();
      await slow.stop();
      await chip.stop();
    }
  });

  it('refuses a second command while one is in flight', async () => {
    const tcti = await Tcti.open(relay.tcti);
    const first = tcti.transceive(getRandom);
    await assert.rejects(tcti.transceive(getRandom), failsWith(TSS2_TCTI_RC.BAD_SEQUENCE));
    await assert.rejects(tcti.setLocality(0), failsWith(TSS2_TCTI_RC.BAD_SEQUENCE));
    assert.equal((await first).length, 28);
    assert.equal(relay.count, 1);
    assert.ok(tcti.usable);
    await tcti.close();
  });

  it('gives up after the timeout, and the connection with it', async () => {
    const tcti = await Tcti.open(relay.tcti);
    await assert.rejects(tcti.transceive(getRandom, 50), failsWith(TSS2_TCTI_RC.TRY_AGAIN));
    await assert.rejects(tcti.transceive(getRandom), failsWith(TSS2_TCTI_RC.NO_CONNECTION));
    await tcti.close();
    wait = 0;
    await delay(SLOW_MS);
    const again = await Tcti.open(relay.tcti);
    assert.equal((await again.transceive(getRandom, 5000)).length, 28);
    await again.close();
  });

  it('says at once that swtpm cannot cancel, and still answers', async () => {
    const tcti = await Tcti.open(relay.tcti);
    const answer = tcti.transceive(getRandom);
    await assert.rejects(tcti.cancel(), failsWith(TSS2_TCTI_RC.NOT_IMPLEMENTED));
    assert.equal((await answer).length, 28);
    await tcti.close();
  });

  it('rejects the command in flight at close, at once', async () => {
    const tcti = await Tcti.open(relay.tcti);
    const answer = tcti.transceive(getRandom);
    const rejected = assert.rejects(answer, failsWith(TSS2_TCTI_RC.BAD_CONTEXT));
    await delay(50);
    const start = performance.now();
    await Promise.all([tcti.close(), rejected]);
    assert.ok(performance.now() - start < SLOW_MS);
    // The thread that was left behind ends with the answer.
    await delay(SLOW_MS);
  });

  it('fails when the chip goes away in the middle of a command', async () => {
    const tcti = await Tcti.open(relay.tcti);
    const rejected = assert.rejects(tcti.transceive(getRandom), failsWith(TSS2_TCTI_RC.IO_ERROR));
    await delay(50);
    relay.dropConnections();
    await rejected;
    await tcti.close();
  });

  it('does not let a child process inherit the connection', async () => {
    wait = 100;
    const tcti = await Tcti.open(relay.tcti);
    const answer = tcti.transceive(getRandom);
    await delay(30);
    const child = spawn('sleep', ['30'], { stdio: 'ignore' });
    await once(child, 'spawn');
    const { stdout } = await promisify(execFile)('ls', ['-l', `/proc/${String(child.pid)}/fd`]);
    await answer;
    child.kill();
    assert.doesNotMatch(stdout, /socket:/);
    await tcti.close();
  });
});
