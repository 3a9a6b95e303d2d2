import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, closeSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { sdNotify } from '../../src/native/index.js';

// Stands in for systemd: receives one datagram, prints it and the number of descriptors that came along.
const manager = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind('\\0' + name[1:] if name[0] == '@' else name)
print('bound', flush=True)
data, fds, flags, address = socket.recv_fds(s, 4096, 8)
print(data.decode(), len(fds), flush=True)
`;

describe('sdNotify', () => {
  const saved = process.env['NOTIFY_SOCKET'];
  let directory: string;
  let listener: ChildProcess | undefined;
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tpmux-notify-'));
  });
  afterEach(() => {
    listener?.kill();
    rmSync(directory, { recursive: true });
    if (saved === undefined) delete process.env['NOTIFY_SOCKET'];
    else process.env['NOTIFY_SOCKET'] = saved;
  });

  async function listen(name: string): Promise<() => Promise<string>> {
    const child = spawn('python3', ['-c', manager, name], { stdio: ['ignore', 'pipe', 'inherit'] });
    listener = child;
    process.env['NOTIFY_SOCKET'] = name;
    const output = text(child.stdout);
    await once(child.stdout, 'data');
    return () => output;
  }

  it('reaches a socket in the file system', async () => {
    const received = await listen(path.join(directory, 'notify'));
    assert.equal(sdNotify('READY=1\nSTATUS=läuft'), true);
    assert.equal(await received(), 'bound\nREADY=1\nSTATUS=läuft 0\n');
  });

  it('reaches an abstract socket, with descriptors', async () => {
    const received = await listen(`@tpmux-test-${process.pid.toString()}`);
    const fd = openSync('/dev/null', 'r');
    assert.equal(sdNotify('FDSTORE=1\nFDNAME=tpm', [fd]), true);
    closeSync(fd);
    assert.equal(await received(), 'bound\nFDSTORE=1\nFDNAME=tpm 1\n');
  });

  it('tells nobody when there is nobody', () => {
    delete process.env['NOTIFY_SOCKET'];
    assert.equal(sdNotify('READY=1'), false);
  });

  it('fails clearly', () => {
    process.env['NOTIFY_SOCKET'] = path.join(directory, 'absent');
    assert.throws(() => sdNotify('READY=1'), { code: 'ENOENT', syscall: 'sendmsg' });
    process.env['NOTIFY_SOCKET'] = 'relative/path';
    assert.throws(() => sdNotify('READY=1'), /neither an absolute path/);
    process.env['NOTIFY_SOCKET'] = `/${'x'.repeat(200)}`;
    assert.throws(() => sdNotify('READY=1'), { code: 'ENAMETOOLONG' });
  });
});
