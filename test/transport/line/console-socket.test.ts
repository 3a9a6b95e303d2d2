import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LINE_GAP_MS } from '../../../src/transport/line/resync.js';
import { LineServer } from '../../../src/transport/line/server.js';
import { consoleSocket } from '../../../src/transport/line/socket-line.js';
import { waitFor } from '../../support/wait-for.js';
import { commandOf, EchoTpm } from '../echo-tpm.js';
import { testLink, type TestLink } from '../test-link.js';

/** Listens as QEMU does for a console with `connection=socket`. */
class Console {
  received = Buffer.alloc(0);
  connections = 0;
  private socket: Socket | undefined;

  private constructor(private readonly server: Server) {
    server.on('connection', (socket: Socket) => {
      this.connections += 1;
      this.socket = socket;
      socket.on('error', () => undefined);
      socket.on('data', (data: Buffer) => {
        this.received = Buffer.concat([this.received, data]);
      });
    });
  }

  static async listen(path: string): Promise<Console> {
    const server = createServer().listen(path);
    await new Promise((resolve) => server.once('listening', resolve));
    return new Console(server);
  }

  write(bytes: Buffer): void {
    this.socket?.write(bytes);
  }

  close(): void {
    this.socket?.destroy();
    this.server.close();
  }
}

describe('a console that is a UNIX socket', () => {
  let root: string;
  let path: string;
  let link: TestLink;
  let server: LineServer;
  let console: Console | undefined;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-console-'));
    path = join(root, 'console');
    link = testLink(new EchoTpm());
    server = new LineServer(consoleSocket(path), link, () => undefined);
  });
  afterEach(async () => {
    await server.close(100);
    console?.close();
    await rm(root, { recursive: true });
    assert.deepEqual(link.defects, []);
  });

  const until = (condition: () => boolean): Promise<boolean> => waitFor(condition, () => JSON.stringify(server.view()));

  it('is connected to when it appears, served, and connected to again', async () => {
    await until(() => server.view().reason !== null);
    assert.match(server.view().reason ?? '', /ENOENT/);
    for (let round = 1; round <= 2; round++) {
      console = await Console.listen(path);
      await until(() => server.view().open);
      const command = commandOf(Buffer.from(`round ${round.toString()}`));
      console.write(Buffer.concat([Buffer.from('noise'), command]));
      await until(() => console?.received.equals(command) === true);
      console.close();
      await until(() => !server.view().open);
    }
  });

  it('is not connected to more often than it makes sense', async () => {
    console = await Console.listen(path);
    await until(() => server.view().open);
    // Time in which it would connect again ten times, if it did after its shortest pause.
    await sleep(1000);
    assert.equal(console.connections, 1);
  });

  it('takes half a command for noise after 2 seconds, each time', async () => {
    // A timer may run out a fraction of a millisecond early: of many, some do.
    const paths = Array.from({ length: 60 }, (_, i) => join(root, `quiet${i.toString()}`));
    const consoles = await Promise.all(paths.map((at) => Console.listen(at)));
    const servers = paths.map((at) => new LineServer(consoleSocket(at), link, () => undefined));
    try {
      await until(() => servers.every((quiet) => quiet.view().open));
      for (const [i, quiet] of consoles.entries()) {
        quiet.write(Buffer.from('80010000000c0000017b', 'hex'));
        // At another part of a millisecond each.
        await new Promise((resolve) => setTimeout(resolve, i % 3));
      }
      // The silence is what this is about; a longer one is as good.
      await sleep(LINE_GAP_MS + 500);
      const command = commandOf(Buffer.from('after'));
      for (const quiet of consoles) quiet.write(command);
      await until(() => consoles.every((quiet) => quiet.received.length >= command.length));
      for (const quiet of consoles) assert.deepEqual(quiet.received, command);
    } finally {
      await Promise.all(servers.map((quiet) => quiet.close(100)));
      for (const quiet of consoles) quiet.close();
    }
  });

  it('stays connected through garbage', async () => {
    console = await Console.listen(path);
    await until(() => server.view().open);
    console.write(Buffer.from(`8001ffffffff00000144${'5a'.repeat(20_000)}`, 'hex'));
    const command = commandOf(Buffer.from('after'));
    console.write(command);
    await until(() => console?.received.equals(command) === true);
    assert.equal(console.connections, 1);
    assert.ok(link.rejections.every((reason) => reason === 'line_noise'));
  });
});
