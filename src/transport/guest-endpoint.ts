// All sockets of one guest.
import { chmod, mkdir, rmdir } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { GuestTpm, StatePart } from '../vtpm/guest-tpm.js';
import { serveControl, serveData, type Connection } from './connection.js';
import { ControlSession } from './control-session.js';
import { ControlTurn } from './control-turn.js';
import { BUFFER_SIZE, type GuestLink, type Rejection, type TpmDescription, type TransportLimits } from './guest-link.js';
import type { LinePlace } from './line.js';
import { LineServer, type LineView } from './line-server.js';
import { listen, type Address, type Listener } from './listener.js';
import { serveMssimCommands, serveMssimPlatform } from './mssim.js';
import { DeviceServer } from './vtpmx.js';

/** Where one guest is served, and by which rules. */
export interface EndpointOptions {
  /** For log lines. */
  readonly name: string;
  readonly tpm: GuestTpm;
  readonly description: TpmDescription;
  readonly limits: TransportLimits;
  /** Directory of the guest's sockets; made with mode 0700, removed (if empty) when the endpoint is closed. */
  readonly directory: string;
  /** Data port on the loopback address; the control channel is on the next port. */
  readonly tcpPort?: number | undefined;
  /** Command port of the simulator's protocol on the loopback address; the platform port is the next one. */
  readonly mssimPort?: number | undefined;
  /** Lines on which raw TPM commands are served whenever they are there. */
  readonly lines?: readonly LinePlace[] | undefined;
  /** A line was opened, went away, or cannot be opened; nobody is told by default. */
  readonly onLineChange?: (view: LineView) => void;
  readonly onRejection: (reason: Rejection) => void;
  /** A state blob was not taken; nobody is told by default. */
  readonly onRefusedState?: (part: StatePart, reason: string) => void;
  readonly onDefect: (error: unknown) => void;
}

const TCP_HOST = '127.0.0.1';
/** What is spoken at an address: TPM commands, control requests (over UNIX sockets with descriptors beside them), the simulator's ports. */
type Protocol = 'data' | 'control' | 'control with descriptors' | 'mssim commands' | 'mssim platform';

/** Path of the data socket in a guest's directory; the control channel is at the same path plus `.ctrl`. */
export function dataSocketPath(directory: string): string {
  return join(directory, 'tpm.sock');
}

/** All ways to one guest: sockets, lines, a device. */
export class GuestEndpoint {
  private readonly listeners: Listener[] = [];
  private readonly connections = new Set<Connection>();
  private lines: readonly LineServer[] = [];
  private device: DeviceServer | undefined;

  private constructor(
    private readonly directory: string,
    private readonly link: GuestLink,
  ) {}

  /** Listens on all addresses or none. Rejects with a {@link Failure} that names the address. */
  static async open(options: EndpointOptions): Promise<GuestEndpoint> {
    const { name, tpm, description, limits, onRejection, onDefect, onRefusedState = (): void => undefined } = options;
    const link: GuestLink = {
      name,
      tpm,
      description,
      limits,
      locality: 0,
      bufferSize: BUFFER_SIZE.max,
      turn: new ControlTurn(),
      onRejection,
      onRefusedState,
      onDefect,
    };
    const endpoint = new GuestEndpoint(options.directory, link);
    try {
      await mkdir(options.directory, { recursive: true, mode: 0o700 });
      await chmod(options.directory, 0o700);
      for (const [address, protocol] of addresses(options)) {
        const accept = (socket: Socket): void => {
          endpoint.accept(socket, protocol);
        };
        endpoint.listeners.push(await listen(address, accept, protocol === 'control with descriptors'));
      }
    } catch (error) {
      await endpoint.close(0);
      throw error;
    }
    const { lines = [], onLineChange = (): void => undefined } = options;
    endpoint.lines = lines.map((place) => new LineServer(place, link, onLineChange));
    return endpoint;
  }

  /** Number of connections at the moment. */
  get connectionCount(): number {
    return this.connections.size;
  }

  /** The locality of the next command. */
  get locality(): number {
    return this.link.locality;
  }

  /** How it stands with each line. */
  get lineViews(): LineView[] {
    return this.lines.map((line) => line.view());
  }

  /** Serves a device of the host on the descriptor `fd`, which it takes over, in place of an earlier one. `onEnd` is told when it is gone. */
  async serveDevice(fd: number, onEnd: () => void): Promise<void> {
    await this.device?.close(0);
    const device = new DeviceServer(fd, this.link);
    this.device = device;
    void device.ended.then(onEnd);
  }

  /** Accepts nothing more, lets running commands end (at most `grace` milliseconds), removes the sockets. */
  async close(grace: number): Promise<void> {
    for (const listener of this.listeners) listener.close();
    await Promise.all([
      ...[...this.connections].map((connection) => connection.finish(grace)),
      ...this.lines.map((line) => line.close(grace)),
      this.device?.close(grace),
    ]);
    // Closing a listener removes its socket; what somebody else put into the directory stays.
    await rmdir(this.directory).catch(() => undefined);
  }

  private accept(socket: Socket, protocol: Protocol): void {
    const serve = { data: serveData, 'mssim commands': serveMssimCommands, 'mssim platform': serveMssimPlatform };
    if (protocol === 'data' || protocol === 'mssim commands' || protocol === 'mssim platform') {
      this.add(socket, () => serve[protocol](socket, this.link));
      return;
    }
    const session = new ControlSession(this.link, (dataSocket, onCommand) =>
      this.add(dataSocket, () => serveData(dataSocket, this.link, onCommand)),
    );
    this.add(socket, () => serveControl(socket, session, protocol === 'control with descriptors'));
  }

  /** Has a connection served; undefined, and closed, if there are too many. */
  private add(socket: Socket, serve: () => Connection): Connection | undefined {
    // What an error means for the connection is seen where it is read and written.
    socket.on('error', () => undefined);
    if (this.connections.size >= this.link.limits.maxConnections) {
      this.link.onRejection('too_many');
      socket.destroy();
      return undefined;
    }
    const connection = serve();
    this.connections.add(connection);
    socket.once('close', () => this.connections.delete(connection));
    return connection;
  }
}

function addresses({ directory, tcpPort, mssimPort }: EndpointOptions): [Address, Protocol][] {
  const path = dataSocketPath(directory);
  const onLoopback = (port: number | undefined, first: Protocol, second: Protocol): [Address, Protocol][] =>
    port === undefined
      ? []
      : [
          [{ host: TCP_HOST, port: port + 1 }, second],
          [{ host: TCP_HOST, port }, first],
        ];
  return [
    [{ path: `${path}.ctrl` }, 'control with descriptors'],
    [{ path }, 'data'],
    ...onLoopback(tcpPort, 'data', 'control'),
    ...onLoopback(mssimPort, 'mssim commands', 'mssim platform'),
  ];
}
