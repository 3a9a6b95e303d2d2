import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, readlink, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LineServer, type LineView } from '../../../src/transport/line/server.js';
import { tty } from '../../../src/transport/line/tty-line.js';
import { Pty } from '../../support/pty.js';
import { waitFor } from '../../support/wait-for.js';
import { commandOf, EchoTpm } from '../echo-tpm.js';
import { testLink, type TestLink } from '../test-link.js';

/** Answers with a header and a changed body, so that an answer is not the command. */
class AnsweringTpm extends EchoTpm {
  override async execute(command: Buffer, locality: number): Promise<Buffer> {
    const response = await super.execute(command, locality);
    for (let i = 10; i < response.length; i++) response[i] = response.readUInt8(i) ^ 0xff;
    return response;
  }
}

/** How often this process has asked the kernel for bytes. */
const reads = (): number => Number(/^syscr: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);

const text = (value: string): Buffer => commandOf(Buffer.from(value));
const answerTo = (value: string): Buffer => commandOf(Buffer.from(value).map((byte) => byte ^ 0xff) as Buffer);

describe('a tty', function () {
  let root: string;
  let path: string;
  let tpm: AnsweringTpm;
  let link: TestLink;
  let views: LineView[];
  let pty: Pty | undefined;
  const servers: LineServer[] = [];

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-tty-'));
    path = join(root, 'tty');
    tpm = new AnsweringTpm();
    link = testLink(tpm);
    views = [];
  });
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.close(200)));
    await pty?.close();
    pty = undefined;
    await rm(root, { recursive: true });
    assert.deepEqual(link.defects, []);
  });

  const serve = (at = path): LineServer => {
    const server = new LineServer(tty(at), link, (view) => views.push(view));
    servers.push(server);
    return server;
  };
  const until = (condition: () => boolean): Promise<boolean> =>
    waitFor(condition, () => `${condition.toString()}: ${JSON.stringify(views)} ${link.rejections.join()}`);
  const opened = async (options?: string): Promise<{ server: LineServer; pty: Pty }> => {
    pty = await Pty.open(path, options);
    const server = serve();
    await until(() => server.view().open);
    return { server, pty };
  };

  it('answers commands that come whole, in pieces and together', async () => {
    const { pty } = await opened();
    pty.write(text('a'));
    assert.deepEqual(await pty.take(11), answerTo('a'));
    // Each read before the next is written, if the machine is fast enough; every other way to cut is right too.
    for (const byte of text('in pieces')) {
      pty.write(Buffer.from([byte]));
      await sleep(1);
    }
    assert.deepEqual(await pty.take(19), answerTo('in pieces'));
    pty.write(Buffer.concat([text('b'), text('c')]));
    assert.deepEqual(await pty.take(22), Buffer.concat([answerTo('b'), answerTo('c')]));
  });

  it('carries every byte and 4096 of them, though the tty was cooked before', async () => {
    const { pty } = await opened('echo=1,icanon=1,icrnl=1,opost=1,onlcr=1,isig=1,ixon=1');
    const body = Buffer.from(Array.from({ length: 4086 }, (_, i) => i % 256));
    pty.write(commandOf(body));
    assert.deepEqual(await pty.take(4096), commandOf(body.map((byte) => byte ^ 0xff) as Buffer));
    // An echo would come first.
    pty.write(text('after'));
    assert.deepEqual(await pty.take(15), answerTo('after'));
  });

  it('finds the command in noise, and after half a command', async () => {
    const { pty } = await opened();
    pty.write(Buffer.concat([Buffer.from('login: \r\n'), text('a'), Buffer.from('#!~')]));
    assert.deepEqual(await pty.take(11), answerTo('a'));
    assert.equal(link.rejections[0], 'line_noise');
    // A wrong header that says 4000 bytes swallows the command until the line has been silent.
    pty.write(Buffer.concat([Buffer.from('800100000fa000000144', 'hex'), text('b')]));
    assert.deepEqual(await pty.take(11), answerTo('b'));
  });

  it('goes on after garbage of every kind', async () => {
    const { server, pty } = await opened();
    const random = Buffer.from(Array.from({ length: 20_000 }, (_, i) => (i * 7919 + (i >> 5)) & 0xff));
    for (const garbage of [random, Buffer.from('8001ffffffff00000144', 'hex'), Buffer.from('800100', 'hex'), Buffer.alloc(5000)]) {
      pty.write(Buffer.concat([garbage, text('still')]));
      await until(() => pty.received.includes(answerTo('still')));
      pty.received = Buffer.alloc(0);
      assert.equal(server.view().open, true);
    }
  });

  it('does not answer its own answers that a cooked terminal sends back', async () => {
    const { server, pty } = await opened();
    pty.write(text('a'));
    const answer = await pty.take(11);
    pty.write(answer);
    await until(() => link.rejections.includes('line_echo'));
    assert.match(server.view().reason ?? '', /sends answers back/);
    pty.write(text('b'));
    assert.deepEqual(await pty.take(11), answerTo('b'));
    assert.deepEqual(
      tpm.log.map((entry) => entry.slice(0, 1)),
      ['a', 'b'],
    );
  });

  it('is waited for, served when it appears, and again when it comes back', async () => {
    const server = serve();
    await until(() => server.view().reason === 'ENOENT');
    for (const round of ['first', 'second']) {
      pty = await Pty.open(path);
      await until(() => server.view().open);
      pty.write(text(round));
      assert.deepEqual(await pty.take(10 + round.length), answerTo(round));
      await pty.close();
      await until(() => !server.view().open);
    }
  });

  it('costs nothing after a hang-up that comes with data', async () => {
    const { server, pty } = await opened();
    pty.write(text('x').subarray(0, 5));
    await pty.close();
    await until(() => !server.view().open);
    const before = reads();
    // Long enough for a loop to be seen as one on any machine; what does not loop can take as long as it likes.
    await sleep(600);
    assert.ok(reads() - before < 1000, `${(reads() - before).toString()} system calls that read`);
  });

  it('is opened anew when nobody reads the answers', async () => {
    link = testLink(tpm, { unreadResponseTimeout: 200 });
    // Holds a PTY and sends 40 big commands without reading an answer; after a line on its standard input it sends one and reads.
    const script = `
import os, pty, sys, threading, time
master, slave = pty.openpty()
print(os.ttyname(slave), flush=True)
sys.stdin.readline()
def send(data):
    while data: data = data[os.write(master, data):]
big = bytes.fromhex('8001000010000000017b') + bytes(4086)
threading.Thread(target=lambda: send(big * 40), daemon=True).start()
sys.stdin.readline()
while True:
    sys.stdout.buffer.write(os.read(master, 65536)); sys.stdout.buffer.flush()
`;
    const holder = spawn('python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
    const [first] = (await once(holder.stdout, 'data')) as [Buffer];
    const server = serve(first.toString().trim());
    await until(() => server.view().open);
    holder.stdin.write('go\n');
    await until(() => link.rejections.includes('unread_response'));
    await until(() => views.filter(({ open, reason }) => open && reason === null).length >= 2);
    assert.ok(tpm.log.length > 0 && tpm.log.length < 40);
    holder.stdin.write('read\n');
    await once(holder.stdout, 'data');
    holder.kill();
    await once(holder, 'exit');
  });

  it('lets a running command end and answers it when the guest is stopped', async () => {
    const { server, pty } = await opened();
    const release = tpm.hold();
    pty.write(text('last'));
    await waitFor(() => tpm.begun === 1);
    const closed = server.close(60_000);
    release();
    await closed;
    assert.deepEqual(await pty.take(14), answerTo('last'));
  });

  it('serves one guest only', async () => {
    const { pty } = await opened();
    const second = serve();
    await until(() => second.view().reason !== null);
    assert.match(second.view().reason ?? '', /Cannot lock port/);
    pty.write(text('a'));
    await pty.take(11);
    assert.equal(second.view().open, false);
  });

  it('is left alone when it is the terminal of a process', async function () {
    pty = await Pty.open(path);
    const name = await readlink(path);
    const terminal = openSync(name, 'r+');
    const getty = spawn('setsid', ['--ctty', 'sleep', '30'], { stdio: [terminal, 'ignore', 'ignore'] });
    await once(getty, 'spawn');
    // It has its terminal when setsid has become what it starts.
    await until(() => readFileSync(`/proc/${String(getty.pid)}/comm`, 'utf8') === 'sleep\n');
    const server = serve();
    await until(() => server.view().reason !== null);
    assert.match(server.view().reason ?? '', /it is the terminal of process \d+/);
    getty.kill();
    await once(getty, 'exit');
    closeSync(terminal);
    await until(() => server.view().open);
  });

  it('says what is wrong with a path that is none', async () => {
    await writeFile(join(root, 'file'), 'mine');
    await symlink('/dev/null', join(root, 'null'));
    for (const name of ['file', 'null']) {
      const server = serve(join(root, name));
      await until(() => server.view().reason !== null);
      assert.match(server.view().reason ?? '', /Inappropriate ioctl/, name);
    }
    await unlink(join(root, 'null'));
  });
});
