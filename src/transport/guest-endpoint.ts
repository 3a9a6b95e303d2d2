// All sockets of one guest.
import { chmod, mkdir, rmdir } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { GuestTpm } from '../vtpm/guest-tpm.js';
import { serveControl, serveData, type Connection } from './connection.js';
import { BUFFER_SIZE, type GuestLink, type Rejection, type TpmDescription, type TransportLimits } from './guest-link.js';
import { listen, type Address, type Listener } from './listener.js';

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
  readonly onRejection: (reason: Rejection) => void;
  readonly onDefect: (error: unknown) => void;
}

const TCP_HOST = '127.0.0.1';
type Serve = (socket: Socket, link: GuestLink) => Connection;

/** Path of the data socket in a guest's directory; the control channel is at the same path plus `.ctrl`. */
export function dataSocketPath(directory: string): string {
  return join(directory, 'tpm.sock');
}

/** The sockets of one guest, swtpm's protocol on all of them. */
export class GuestEndpoint {
  private readonly listeners: Listener[] = [];
  private readonly connections = new Set<Connection>();

  private constructor(
    private readonly directory: string,
    private readonly link: GuestLink,
  ) {}

  /** Listens on all addresses or none. Rejects with a {@link Failure} that names the address. */
  static async open(options: EndpointOptions): Promise<GuestEndpoint> {
    const { name, tpm, description, limits, onRejection, onDefect } = options;
    const link: GuestLink = { name, tpm, description, limits, locality: 0, bufferSize: BUFFER_SIZE.max, onRejection, onDefect };
    const endpoint = new GuestEndpoint(options.directory, link);
    try {
      await mkdir(options.directory, { recursive: true, mode: 0o700 });
      await chmod(options.directory, 0o700);
      for (const [address, serve] of addresses(options)) {
        endpoint.listeners.push(
          await listen(address, (socket) => {
            endpoint.accept(socket, serve);
          }),
        );
      }
    } catch (error) {
      await endpoint.close(0);
      throw error;
    }
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

  /** Accepts nothing more, lets running commands end (at most `grace` milliseconds), removes the sockets. */
  async close(grace: number): Promise<void> {
    for (const listener of this.listeners) listener.close();
    await Promise.all([...this.connections].map((connection) => connection.finish(grace)));
    // Closing a listener removes its socket; what somebody else put into the directory stays.
    await rmdir(this.directory).catch(() => undefined);
  }

  private accept(socket: Socket, serve: Serve): void {
    // What an error means for the connection is seen where it is read and written.
    socket.on('error', () => undefined);
    if (this.connections.size >= this.link.limits.maxConnections) {
      this.link.onRejection('too_many');
      socket.destroy();
      return;
    }
    const connection = serve(socket, this.link);
    this.connections.add(connection);
    socket.once('close', () => this.connections.delete(connection));
  }
}

function addresses(options: EndpointOptions): [Address, Serve][] {
  const path = dataSocketPath(options.directory);
  const port = options.tcpPort;
  return [
    [{ path: `${path}.ctrl` }, serveControl],
    [{ path }, serveData],
    ...(port === undefined
      ? []
      : ([
          [{ host: TCP_HOST, port: port + 1 }, serveControl],
          [{ host: TCP_HOST, port }, serveData],
        ] satisfies [Address, Serve][])),
  ];
}
