import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Tcti, TctiError, TSS2_TCTI_RC } from '../../src/native/index.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';

const getRandom = Buffer.from('80010000000c0000017b0010', 'hex');
const canceled = Buffer.from('80010000000a00000909', 'hex');
const MS_SIM_SEND_COMMAND = 8;
const MS_SIM_CANCEL_ON = 9;
const MS_SIM_CANCEL_OFF = 10;
/** Less than the quarter of a second that close waits for a thread that can't be interrupted. */
const AT_ONCE_MS = 150;
const NEVER_MS = 100_000;

const failsWith =
  (code: number) =>
  (error: unknown): boolean =>
    error instanceof TctiError && error.code === code;

/** swtpm behind the protocol of Microsoft's simulator, whose cancel it has: an answer held back becomes TPM_RC_CANCELED. */
class MssimFront {
  hold = 0;
  readonly platformRequests: number[] = [];
  private readonly sockets = new Set<net.Socket>();
  private held: { socket: net.Socket; timer: NodeJS.Timeout } | undefined;
  private readonly servers: net.Server[] = [];

  constructor(private readonly swtpm: Swtpm) {}

  async start(): Promise<string> {
    for (;;) {
      const port = 40_000 + 2 * Math.floor(Math.random() * 10_000);
      try {
        this.servers.push(await listen(port, (socket) => void this.serveCommands(this.track(socket))));
        this.servers.push(await listen(port + 1, (socket) => void this.servePlatform(this.track(socket))));
        return `mssim:host=127.0.0.1,port=${port.toString()}`;
      } catch {
        for (const server of this.servers.splice(0)) server.close();
      }
    }
  }

  stop(): void {
    clearTimeout(this.held?.timer);
    for (const server of this.servers) server.close();
    for (const socket of this.sockets) socket.destroy();
  }

  private track(socket: net.Socket): net.Socket {
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    return socket;
  }

  private async serveCommands(socket: net.Socket): Promise<void> {
    const read = reader(socket);
    for (;;) {
      const request = await read(4);
      if (request?.readUInt32BE() !== MS_SIM_SEND_COMMAND) return;
      const command = await read((await read(5))?.readUInt32BE(1) ?? 0);
      if (command === undefined) return;
      const upstream = this.track(net.connect(this.swtpm.data));
      upstream.write(command);
      const [response] = (await once(upstream, 'data')) as [Buffer];
      upstream.destroy();
      const timer = setTimeout(() => {
        answer(socket, response);
      }, this.hold);
      this.held = { socket, timer };
    }
  }

  private async servePlatform(socket: net.Socket): Promise<void> {
    const read = reader(socket);
    for (;;) {
      const request = (await read(4))?.readUInt32BE();
      if (request === undefined) return;
      this.platformRequests.push(request);
      if (request === MS_SIM_CANCEL_ON && this.held !== undefined) {
        clearTimeout(this.held.timer);
        answer(this.held.socket, canceled);
      }
      socket.write(Buffer.alloc(4));
    }
  }
}

function answer(socket: net.Socket, response: Buffer): void {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(response.length);
  socket.write(Buffer.concat([size, response, Buffer.alloc(4)]));
}

function listen(port: number, serve: (socket: net.Socket) => void): Promise<net.Server> {
  return new Promise((resolve, reject) => {
    const server = net.createServer({ noDelay: true }, serve);
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      resolve(server);
    });
  });
}

/** Reads exact numbers of bytes; undefined when the connection ends. */
function reader(socket: net.Socket): (size: number) => Promise<Buffer | undefined> {
  return async (size) => {
    for (;;) {
      const bytes = socket.read(size) as Buffer | null;
      if (bytes !== null) return bytes.length === size ? bytes : undefined;
      if (socket.destroyed || socket.readableEnded) return undefined;
      await Promise.race([once(socket, 'readable'), once(socket, 'close')]);
    }
  };
}

describe('Tcti to a simulator, whose TCTI can cancel', () => {
  let swtpm: Swtpm;
  let front: MssimFront;
  let configuration: string;
  before(async () => {
    swtpm = await startSwtpm();
    front = new MssimFront(swtpm);
    configuration = await front.start();
  });
  beforeEach(() => {
    front.hold = 0;
    front.platformRequests.length = 0;
  });
  after(async () => {
    front.stop();
    await swtpm.stop();
  });

  it('carries commands', async () => {
    const tcti = await Tcti.open(configuration);
    for (let i = 0; i < 3; i++) assert.equal((await tcti.transceive(getRandom)).length, 28);
    await tcti.close();
  });

  it('cancels the command in flight and goes on', async () => {
    const tcti = await Tcti.open(configuration);
    front.hold = NEVER_MS;
    const response = tcti.transceive(getRandom);
    await delay(50);
    await tcti.cancel();
    assert.deepEqual(await response, canceled);
    front.hold = 0;
    assert.equal((await tcti.transceive(getRandom)).length, 28);
    await tcti.close();
    assert.deepEqual(
      front.platformRequests.filter((request) => request === MS_SIM_CANCEL_ON || request === MS_SIM_CANCEL_OFF),
      [MS_SIM_CANCEL_ON, MS_SIM_CANCEL_OFF],
    );
  });

  it('has nothing to cancel when nothing is in flight', async () => {
    const tcti = await Tcti.open(configuration);
    await assert.rejects(tcti.cancel(), failsWith(TSS2_TCTI_RC.BAD_SEQUENCE));
    assert.equal((await tcti.transceive(getRandom)).length, 28);
    await tcti.close();
  });

  it('is interrupted by close', async () => {
    const tcti = await Tcti.open(configuration);
    front.hold = NEVER_MS;
    const rejected = assert.rejects(tcti.transceive(getRandom), failsWith(TSS2_TCTI_RC.BAD_CONTEXT));
    await delay(50);
    const start = performance.now();
    await tcti.close();
    assert.ok(performance.now() - start < AT_ONCE_MS);
    await rejected;
  });
});

// A character device for the device TCTI: a pseudo-terminal in raw mode. Answers only the first `limit` commands.
const terminal = `
import os, pty, socket, sys, tty
path, limit = sys.argv[1], int(sys.argv[2])
master, slave = pty.openpty()
tty.setraw(slave)
print(os.ttyname(slave), flush=True)
while True:
    command = os.read(master, 4096)
    if limit == 0: continue
    limit -= 1
    tpm = socket.socket(socket.AF_UNIX)
    tpm.connect(path)
    tpm.sendall(command)
    os.write(master, tpm.recv(4096))
    tpm.close()
`;

describe('Tcti to a character device', () => {
  let swtpm: Swtpm;
  let device: ChildProcess;
  before(async () => {
    swtpm = await startSwtpm();
  });
  afterEach(() => {
    device.kill();
  });
  after(() => swtpm.stop());

  /** One command is used up by the device TCTI's probe while opening. */
  async function open(limit: number): Promise<Tcti> {
    const child = spawn('python3', ['-c', terminal, swtpm.socketPath, limit.toString()], { stdio: ['ignore', 'pipe', 'inherit'] });
    device = child;
    const [name] = (await once(child.stdout, 'data')) as [Buffer];
    return Tcti.open(`device:${name.toString().trim()}`);
  }

  it('carries commands', async () => {
    const tcti = await open(10);
    for (let i = 0; i < 3; i++) assert.equal((await tcti.transceive(getRandom)).length, 28);
    await assert.rejects(tcti.cancel(), failsWith(TSS2_TCTI_RC.NOT_IMPLEMENTED));
    await assert.rejects(tcti.setLocality(1), failsWith(TSS2_TCTI_RC.NOT_IMPLEMENTED));
    assert.ok(tcti.usable);
    await tcti.close();
  });

  it('is interrupted by close', async () => {
    const tcti = await open(1);
    const rejected = assert.rejects(tcti.transceive(getRandom), failsWith(TSS2_TCTI_RC.BAD_CONTEXT));
    await delay(50);
    const start = performance.now();
    await tcti.close();
    assert.ok(performance.now() - start < AT_ONCE_MS);
    await rejected;
  });
});
