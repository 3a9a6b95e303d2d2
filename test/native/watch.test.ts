import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { closeFd, DescriptorWatch, recvWithFds, sendWithFds, socketPair } from '../../src/native/index.js';
import { settled, waitFor } from '../support/wait-for.js';

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

describe('watching a descriptor', () => {
  let mine: number;
  let theirs: number;
  let watch: DescriptorWatch;
  beforeEach(() => {
    [mine, theirs] = socketPair();
    watch = new DescriptorWatch(mine);
  });
  afterEach(() => {
    watch.close();
    closeFd(mine);
    closeFd(theirs);
  });

  it('tells when there is something to read, again and again, and reads nothing', async () => {
    for (const text of ['one', 'two']) {
      const readable = watch.readable();
      await settled();
      sendWithFds(theirs, Buffer.from(text));
      assert.equal(await readable, true);
      assert.equal(await watch.readable(), true);
      assert.equal(recvWithFds(watch.fd, 100)?.data.toString(), text);
    }
  });

  it('tells the end of the peer', async () => {
    const [a, b] = socketPair();
    const other = new DescriptorWatch(a);
    const readable = other.readable();
    closeFd(b);
    assert.equal(await readable, true);
    assert.equal(recvWithFds(other.fd, 10)?.data.length, 0);
    other.close();
    closeFd(a);
  });

  it('ends what waits when it is closed', async () => {
    const readable = watch.readable();
    assert.throws(() => watch.readable(), /waited for already/);
    watch.close();
    assert.equal(await readable, false);
    assert.equal(await watch.readable(), false);
    watch.close();
  });

  it('gives its descriptors back', async () => {
    // Those that were closed earlier are given back in the next turn of the loop.
    await settled();
    const before = openDescriptors();
    for (let i = 0; i < 100; i++) {
      const one = new DescriptorWatch(mine);
      void one.readable();
      one.close();
    }
    await waitFor(() => openDescriptors() <= before);
  });

  it('refuses what cannot be watched', () => {
    assert.throws(() => new DescriptorWatch(-1), RangeError);
    assert.throws(() => new DescriptorWatch(9999), { code: 'EBADF' });
    const file = openSync(import.meta.filename, 'r');
    assert.throws(() => new DescriptorWatch(file), { code: 'EPERM' });
    closeSync(file);
  });

  it('does not outlive a worker that is ended while it waits', async () => {
    const code = `
      const { createRequire } = require('node:module');
      const addon = createRequire(process.cwd() + '/')('./build/Release/tpmux.node');
      const [a] = addon.socketPair();
      const watch = new addon.Watch(a);
      watch.once(() => undefined);
      require('node:worker_threads').parentPort.postMessage('waits');`;
    const worker = new Worker(code, { eval: true });
    await once(worker, 'message');
    assert.equal(await worker.terminate(), 1);
  });
});
