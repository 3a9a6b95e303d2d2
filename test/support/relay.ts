// A relay in front of a swtpm: counts and records the commands that reach the "hardware", plays a slow or dying chip.
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Swtpm } from './swtpm.js';

/** What the relay does with each command. */
export interface RelayOptions {
  /** Milliseconds to hold a response back; Infinity: until {@link Relay.release}. */
  readonly delay?: (command: Buffer) => number;
  /** Called with each command before it goes to the TPM. */
  readonly onCommand?: (command: Buffer) => void;
  /** Called with each response, before it is delayed. */
  readonly onResponse?: (response: Buffer, command: Buffer) => void;
  /** True drops the connection instead of sending the command to the TPM. */
  readonly drop?: (command: Buffer) => boolean;
}

const HEADER_BYTES = 10;

/** The TPM_CC of a command frame. */
export function commandCode(frame: Buffer): number {
  return frame.readUInt32BE(6);
}

/** A running relay; `tcti` is its own. */
export class Relay {
  readonly tcti: string;
  /** Every command since the start or the last {@link clear}, in order. */
  readonly commands: Buffer[] = [];
  private readonly directory: string;
  private readonly swtpm: Swtpm;
  private readonly options: RelayOptions;
  private readonly sockets = new Set<net.Socket>();
  private readonly servers: net.Server[];
  private readonly heldBack = new Set<() => void>();

  private constructor(directory: string, swtpm: Swtpm, options: RelayOptions) {
    this.directory = directory;
    this.tcti = `swtpm:path=${this.socketPath}`;
    this.swtpm = swtpm;
    this.options = options;
    this.servers = [
      net.createServer((client) => {
        this.serveData(client);
      }),
      net.createServer((client) => {
        this.serveControl(client);
      }),
    ];
  }

  static async start(swtpm: Swtpm, options: RelayOptions): Promise<Relay> {
    const relay = new Relay(await mkdtemp(path.join(tmpdir(), 'tpmux-relay-')), swtpm, options);
    await Promise.all(
      relay.servers.map(
        (server, i) =>
          new Promise<void>((resolve, reject) => {
            server.once('error', reject);
            server.listen(i === 0 ? relay.socketPath : `${relay.socketPath}.ctrl`, resolve);
          }),
      ),
    );
    return relay;
  }

  /** Path of the data socket; the control socket is the same with `.ctrl`. */
  get socketPath(): string {
    return path.join(this.directory, 'tpm.sock');
  }

  /** How many commands are recorded. */
  get count(): number {
    return this.commands.length;
  }

  /** TPM_CC of the recorded commands, in order. */
  get codes(): number[] {
    return this.commands.map(commandCode);
  }

  /** How many responses are here, held back. */
  get held(): number {
    return this.heldBack.size;
  }

  /** Lets the responses go that are held back, and no others. */
  release(): void {
    for (const send of this.heldBack) send();
  }

  /** Forgets the recorded commands. */
  clear(): void {
    this.commands.length = 0;
  }

  /** Cuts every connection, as a chip does that is reset; new ones are accepted. */
  dropConnections(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  /** Stops listening, cuts every connection and removes the sockets. The swtpm goes on. */
  async stop(): Promise<void> {
    const closed = this.servers.map(
      (server) =>
        new Promise<void>((resolve) => {
          server.close(() => {
            resolve();
          });
        }),
    );
    this.dropConnections();
    await Promise.all(closed);
    await rm(this.directory, { recursive: true, force: true });
  }

  private serveControl(client: net.Socket): void {
    const upstream = this.connect(client, this.swtpm.control);
    client.pipe(upstream);
    upstream.pipe(client);
  }

  private serveData(client: net.Socket): void {
    // swtpm serves one data connection at a time: ask for one only when there is a command.
    let upstream: net.Socket | undefined;
    const asked: Buffer[] = [];
    this.track(client);
    onFrames(client, (command) => {
      const frame = Buffer.from(command);
      this.commands.push(frame);
      this.options.onCommand?.(frame);
      if (this.options.drop?.(frame) === true) {
        client.destroy();
        return;
      }
      if (upstream === undefined) {
        upstream = this.connect(client, this.swtpm.data);
        onFrames(upstream, (response) => {
          this.answer(client, Buffer.from(response), asked.shift());
        });
      }
      asked.push(frame);
      upstream.write(frame);
    });
  }

  private answer(client: net.Socket, response: Buffer, command: Buffer | undefined): void {
    if (command === undefined) throw new Error('swtpm sent a response that nobody asked for');
    this.options.onResponse?.(response, command);
    const wait = this.options.delay?.(command) ?? 0;
    if (wait === 0) {
      client.write(response);
      return;
    }
    const send = (): void => {
      if (this.heldBack.delete(send)) client.write(response);
    };
    this.heldBack.add(send);
    const timer = wait === Infinity ? undefined : setTimeout(send, wait);
    client.once('close', () => {
      clearTimeout(timer);
      this.heldBack.delete(send);
    });
  }

  /** A connection to the swtpm that lives as long as `client` does. */
  private connect(client: net.Socket, endpoint: Swtpm['data']): net.Socket {
    const upstream = net.connect(endpoint);
    this.track(client);
    this.track(upstream);
    client.once('close', () => upstream.destroy());
    upstream.once('close', () => client.destroy());
    return upstream;
  }

  private track(socket: net.Socket): void {
    if (this.sockets.has(socket)) return;
    this.sockets.add(socket);
    // A cut connection is what some tests are about; the close event says all.
    socket.on('error', () => undefined);
    socket.once('close', () => this.sockets.delete(socket));
  }
}

/** Puts a relay in front of `swtpm`. */
export function startRelay(swtpm: Swtpm, options: RelayOptions = {}): Promise<Relay> {
  return Relay.start(swtpm, options);
}

/** Calls `handle` for each TPM frame (size at offset 2) in the stream. */
function onFrames(socket: net.Socket, handle: (frame: Buffer) => void): void {
  let pending = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= HEADER_BYTES) {
      const size = pending.readUInt32BE(2);
      if (size < HEADER_BYTES) {
        socket.destroy();
        return;
      }
      if (pending.length < size) return;
      handle(pending.subarray(0, size));
      pending = pending.subarray(size);
    }
  });
}
