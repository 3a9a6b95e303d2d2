import assert from 'node:assert/strict';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { once } from 'node:events';
import { closeFd, MAX_MESSAGE_FDS, peerCredentials, recvWithFds, sendWithFds, socketPair } from '../../src/native/index.js';

describe('descriptors over a socket pair', () => {
  let directory: string;
  let file: string;
  let ends: [number, number];
  before(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tpmux-fds-'));
    file = path.join(directory, 'file');
    writeFileSync(file, 'content');
  });
  after(() => {
    rmSync(directory, { recursive: true });
  });
  beforeEach(() => {
    ends = socketPair();
  });
  afterEach(() => {
    ends.forEach(closeFd);
  });

  it('arrive with the data, as duplicates that are close-on-exec', () => {
    const sent = openSync(file, 'r');
    assert.equal(sendWithFds(ends[0], Buffer.from('hello'), [sent, sent]), 5);
    closeSync(sent);
    const received = recvWithFds(ends[1], 100);
    assert.equal(received?.data.toString(), 'hello');
    assert.equal(received.fds.length, 2);
    for (const fd of received.fds) {
      assert.equal(readFileSync(`/proc/self/fd/${fd.toString()}`, 'utf8'), 'content');
      assert.match(readFileSync(`/proc/self/fdinfo/${fd.toString()}`, 'utf8'), /flags:\s+0?2\d+/);
      closeFd(fd);
      assert.throws(() => fstatSync(fd), { code: 'EBADF' });
    }
  });

  it('are absent from plain data, and nothing is null', () => {
    assert.equal(recvWithFds(ends[1], 10), null);
    sendWithFds(ends[0], Buffer.from('0123456789abc'));
    assert.deepEqual(recvWithFds(ends[1], 10), { data: Buffer.from('0123456789'), fds: [] });
    assert.deepEqual(recvWithFds(ends[1], 10), { data: Buffer.from('abc'), fds: [] });
  });

  it('are closed when there are too many', () => {
    const before = countDescriptors();
    const many = Array<number>(MAX_MESSAGE_FDS).fill(ends[0]);
    assert.equal(sendWithFds(ends[0], Buffer.from('x'), many), 1);
    const received = recvWithFds(ends[1], 1);
    assert.equal(received?.fds.length, MAX_MESSAGE_FDS);
    received.fds.forEach(closeFd);
    assert.equal(countDescriptors(), before);
    assert.throws(() => sendWithFds(ends[0], Buffer.from('x'), [...many, ends[0]]), RangeError);
  });

  it('end with empty data when the peer closes', () => {
    const [near, far] = socketPair();
    closeFd(far);
    assert.deepEqual(recvWithFds(near, 10), { data: Buffer.alloc(0), fds: [] });
    assert.throws(() => sendWithFds(near, Buffer.from('x')), { code: 'EPIPE', syscall: 'sendmsg' });
    closeFd(near);
  });

  it('fail as Node fails', () => {
    assert.throws(() => recvWithFds(987654, 10), { code: 'EBADF', syscall: 'recvmsg' });
    assert.throws(
      () => {
        closeFd(987654);
      },
      { code: 'EBADF', syscall: 'close' },
    );
    assert.throws(() => recvWithFds(-1, 10), RangeError);
    assert.throws(() => recvWithFds(ends[0], 0), RangeError);
    assert.throws(() => sendWithFds(ends[0], Buffer.alloc(0), [ends[0]]), RangeError);
    assert.throws(() => peerCredentials(987654), { code: 'EBADF', syscall: 'getsockopt' });
  });

  it('tell who connected', () => {
    assert.deepEqual(peerCredentials(ends[0]), { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
  });

  it('are read from a connection of a paused net server', async () => {
    const server = net.createServer({ pauseOnConnect: true });
    server.listen(path.join(directory, 'sock'));
    await once(server, 'listening');
    const client = net.connect(path.join(directory, 'sock'));
    const [peer] = (await once(server, 'connection')) as [net.Socket];
    const handleFd = (socket: net.Socket): number => (socket as unknown as { _handle: { fd: number } })._handle.fd;
    await once(client, 'connect');
    sendWithFds(handleFd(client), Buffer.from('take'), [ends[0]]);
    const received = recvWithFds(handleFd(peer), 10);
    assert.equal(received?.data.toString(), 'take');
    assert.equal(peerCredentials(handleFd(peer)).pid, process.pid);
    received.fds.forEach(closeFd);
    client.destroy();
    peer.destroy();
    server.close();
  });
});

function countDescriptors(): number {
  let count = 0;
  for (let fd = 0; fd < 1024; fd++) {
    try {
      fstatSync(fd);
      count += 1;
    } catch {
      // not open
    }
  }
  return count;
}
