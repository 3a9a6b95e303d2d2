import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { randomBytes, pbkdf2 } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { Tcti, TctiError, TSS2_TCTI_RC } from '../../src/native/index.js';
import { startRelay, type Relay } from '../support/relay.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { waitFor } from '../support/wait-for.js';

const getRandom = Buffer.from('80010000000c0000017b0010', 'hex');

const threads = (): number => readdirSync('/proc/self/task').length;
const failsWith =
  (code: number) =>
  (error: unknown): boolean =>
    error instanceof TctiError && error.code === code;

describe('Tcti with a slow chip', () => {
  let swtpm: Swtpm;
  let relay: Relay;
  /** Whether the chip's answers stay at the relay until they are released. */
  let slow = true;
  before(async () => {
    swtpm = await startSwtpm();
    relay = await startRelay(swtpm, { delay: () => (slow ? Infinity : 0) });
  });
  beforeEach(() => {
    slow = true;
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
        const held = await startRelay(chip, { delay: () => Infinity });
        return { chip, held, tcti: await Tcti.open(held.tcti) };
      }),
    );
    let answered = false;
    const answers = Promise.all(chips.map(({ tcti }) => tcti.transceive(getRandom))).finally(() => {
      answered = true;
    });
    await waitFor(() => chips.every(({ held }) => held.held === 1));
    let done = 0;
    void readFile('/etc/hostname').then(() => done++);
    void promisify(pbkdf2)('x', randomBytes(8), 10, 16, 'sha256').then(() => done++);
    await waitFor(
      () => done === 2,
      () => 'the thread pool waits for the chips',
    );
    assert.equal(answered, false);
    for (const { held } of chips) held.release();
    for (const answer of await answers) assert.equal(answer.length, 28);
    for (const { chip, held, tcti } of chips) {
      await tcti.close();
      await held.stop();
      await chip.stop();
    }
  });

  it('refuses a second command while one is in flight', async () => {
    const tcti = await Tcti.open(relay.tcti);
    const first = tcti.transceive(getRandom);
    await assert.rejects(tcti.transceive(getRandom), failsWith(TSS2_TCTI_RC.BAD_SEQUENCE));
    await assert.rejects(tcti.setLocality(0), failsWith(TSS2_TCTI_RC.BAD_SEQUENCE));
    await waitFor(() => relay.held === 1);
    relay.release();
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
    await waitFor(() => relay.held === 1);
    slow = false;
    relay.release();
    const again = await Tcti.open(relay.tcti);
    assert.equal((await again.transceive(getRandom, 50_000)).length, 28);
    await again.close();
  });

  it('says at once that swtpm cannot cancel, and still answers', async () => {
    const tcti = await Tcti.open(relay.tcti);
    const answer = tcti.transceive(getRandom);
    await assert.rejects(tcti.cancel(), failsWith(TSS2_TCTI_RC.NOT_IMPLEMENTED));
    await waitFor(() => relay.held === 1);
    relay.release();
    assert.equal((await answer).length, 28);
    await tcti.close();
  });

  it('rejects the command in flight at close, at once', async () => {
    const tcti = await Tcti.open(relay.tcti);
    const answer = tcti.transceive(getRandom);
    const rejected = assert.rejects(answer, failsWith(TSS2_TCTI_RC.BAD_CONTEXT));
    await waitFor(() => relay.held === 1);
    const left = threads();
    await Promise.all([tcti.close(), rejected]);
    assert.equal(relay.held, 1, 'the chip has answered');
    // The thread that was left behind ends with the answer.
    relay.release();
    await waitFor(() => threads() < left);
  });

  it('fails when the chip goes away in the middle of a command', async () => {
    const tcti = await Tcti.open(relay.tcti);
    const rejected = assert.rejects(tcti.transceive(getRandom), failsWith(TSS2_TCTI_RC.IO_ERROR));
    await waitFor(() => relay.held === 1);
    relay.dropConnections();
    await rejected;
    await tcti.close();
  });

  it('does not let a child process inherit the connection', async () => {
    const tcti = await Tcti.open(relay.tcti);
    const answer = tcti.transceive(getRandom);
    await waitFor(() => relay.held === 1);
    const child = spawn('sleep', ['30'], { stdio: 'ignore' });
    await once(child, 'spawn');
    const { stdout } = await promisify(execFile)('ls', ['-l', `/proc/${String(child.pid)}/fd`]);
    child.kill();
    relay.release();
    await answer;
    assert.doesNotMatch(stdout, /socket:/);
    await tcti.close();
  });
});
