import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import net from 'node:net';
import { Tcti, TctiError, TSS2_TCTI_RC } from '../../src/native/index.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { waitFor } from '../support/wait-for.js';

const getRandom = Buffer.from('80010000000c0000017b0010', 'hex');
const canceled = Buffer.from('80010000000a00000909', 'hex');
const MS_SIM_SEND_COMMAND = 8;
const MS_SIM_CANCEL_ON = 9;
const MS_SIM_CANCEL_OFF = 10;

/** What the descriptors of this process are of. */
function descriptors(): string[] {
  return readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
}

const failsWith =
  (code: number) =>
  (error: unknown): boolean =>
    error instanceof TctiError && error.code === code;

/** swtpm behind the protocol of Microsoft's simulator, whose cancel it has: an answer held back becomes TPM_RC_CANCELED. */
class MssimFront {
  /** Keeps answers back until they are canceled. */
  hold = false;
  readonly platformRequests: number[] = [];
  private readonly sockets = new Set<net.Socket>();
  private heldFor: net.Socket | undefined;
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

  /** Whether an answer is kept back for a connection that is still there. */
  get held(): boolean {
    return this.heldFor !== undefined;
  }

  stop(): void {
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
      if (!this.hold) {
        answer(socket, response);
        continue;
      }
      this.heldFor = socket;
      socket.once('close', () => {
        this.heldFor = undefined;
      });
    }
  }

  private async servePlatform(socket: net.Socket): Promise<void> {
    const read = reader(socket);
    for (;;) {
      const request = (await read(4))?.readUInt32BE();
      if (request === undefined) return;
      this.platformRequests.push(request);
      if (request === MS_SIM_CANCEL_ON && this.heldFor !== undefined) {
        answer(this.heldFor, canceled);
        this.heldFor = undefined;
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
    front.hold = false;
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
    front.hold = true;
    const response = tcti.transceive(getRandom);
    await waitFor(() => front.held);
    await tcti.cancel();
    assert.deepEqual(await response, canceled);
    front.hold = false;
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
    front.hold = true;
    const rejected = assert.rejects(tcti.transceive(getRandom), failsWith(TSS2_TCTI_RC.BAD_CONTEXT));
    await waitFor(() => front.held);
    await Promise.all([tcti.close(), rejected]);
    // The thread no longer waits for the answer, which does not come: the connection is gone.
    await waitFor(() => !front.held);
  });
});

// A character device for the device TCTI: a pseudo-terminal in raw mode. Answers only the first `limit` commands, and says of the others that it has taken them.
const terminal = `
import os, pty, socket, sys, tty
path, limit = sys.argv[1], int(sys.argv[2])
master, slave = pty.openpty()
tty.setraw(slave)
print(os.ttyname(slave), flush=True)
while True:
    command = os.read(master, 4096)
    if limit == 0:
        print('taken', flush=True)
        continue
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
  let name: string;
  before(async () => {
    swtpm = await startSwtpm();
  });
  afterEach(() => {
    device.kill();
  });
  after(() => swtpm.stop());

  /** How often this process has the device open. */
  const connections = (): number => descriptors().filter((target) => target === name).length;

  /** One command is used up by the device TCTI's probe while opening. */
  async function open(limit: number): Promise<Tcti> {
    const child = spawn('python3', ['-c', terminal, swtpm.socketPath, limit.toString()], { stdio: ['ignore', 'pipe', 'inherit'] });
    device = child;
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    name = line.toString().trim();
    return Tcti.open(`device:${name}`);
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
    const taken = once(device.stdout ?? assert.fail(), 'data');
    const rejected = assert.rejects(tcti.transceive(getRandom), failsWith(TSS2_TCTI_RC.BAD_CONTEXT));
    await taken;
    assert.equal(connections(), 1);
    await Promise.all([tcti.close(), rejected]);
    // The thread no longer waits for the answer, which does not come: the device is closed.
    await waitFor(() => connections() === 0);
  });
});
