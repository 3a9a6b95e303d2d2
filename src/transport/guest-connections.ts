// The connections of one guest: accepted, taken over from another daemon, ended or left to the next one.
import { closeFd, ExchangeMemory, shutdownSocket } from '../native/index.js';
import { Channel } from './channel.js';
import type { Connection } from './connection.js';
import { serveControl } from './control/serve.js';
import { holderOf } from './control/holder.js';
import { ControlSession } from './control/session.js';
import type { GuestDescriptors } from './kept/descriptor-store.js';
import type { GuestLink } from './guest-link.js';
import {
  connectionName,
  isControl,
  exchangeSizes,
  type ConnectionKind,
  type ControlKind,
  type KeptConnection,
} from './kept/connections.js';
import { serveMssimCommands, serveMssimPlatform } from './mssim/mssim.js';
import { serveData, serveDataPort } from './tpm-commands.js';

/** How long a command may wait for requests of the platform port that came before it, in milliseconds. */
const PLATFORM_GRACE = 500;

type Serve = (channel: Channel) => Connection;

/** All connections of one guest. */
export class GuestConnections {
  private readonly connections = new Map<Connection, ConnectionKind>();

  constructor(
    private readonly link: GuestLink,
    private readonly descriptors: GuestDescriptors,
  ) {}

  /** Number of connections at the moment. */
  get count(): number {
    return this.connections.size;
  }

  /** Serves a connection that was accepted; `fd` is taken over, and closed if there are too many. */
  accept(fd: number, kind: ConnectionKind): void {
    const number = this.descriptors.number();
    const serve = isControl(kind) ? this.control(kind, number) : this.plain(kind);
    this.open(fd, kind, connectionName(kind, number), serve);
  }

  /** Goes on with connections of another daemon. */
  takeOver(kept: readonly KeptConnection[], onDropped: (name: string, reason: string) => void): void {
    for (const { number } of kept) this.descriptors.number(number);
    const owned = new Map<number, KeptConnection>();
    for (const each of kept) if (each.owner !== undefined) owned.set(each.owner, each);
    for (const each of kept) {
      if (each.owner !== undefined) continue;
      const { kind, number } = each;
      if (!isControl(kind)) {
        this.resume(each, this.plain(kind), onDropped);
        continue;
      }
      const data = owned.get(number);
      owned.delete(number);
      this.resume(each, this.control(kind, number, data, onDropped), onDropped);
    }
    for (const each of owned.values()) this.drop(each, 'its control connection is gone', onDropped);
  }

  /** Lets running commands end, at most `grace` milliseconds, and closes. */
  async finish(grace: number): Promise<void> {
    await Promise.all([...this.connections.keys()].map((connection) => connection.finish(grace)));
  }

  /** As {@link finish}, but the peers do not notice. As long as a command runs it can be canceled. */
  async leave(grace: number): Promise<void> {
    await this.leaveEach(grace, (kind) => !isControl(kind));
    await this.leaveEach(grace, isControl);
    // What a machine handed over in the meantime.
    await this.leaveEach(grace, () => true);
  }

  private async leaveEach(grace: number, chosen: (kind: ConnectionKind) => boolean): Promise<void> {
    const connections = [...this.connections].flatMap(([connection, kind]) => (chosen(kind) ? [connection] : []));
    await Promise.all(connections.map((connection) => connection.leave(grace)));
  }

  private plain(kind: Exclude<ConnectionKind, ControlKind>): Serve {
    if (kind === 'mssim') return (channel) => serveMssimCommands(channel, this.link, () => this.platformSettled());
    const serve = { data: serveDataPort, platform: serveMssimPlatform }[kind];
    return (channel) => serve(channel, this.link);
  }

  private async platformSettled(): Promise<void> {
    const platform = [...this.connections].flatMap(([connection, kind]) => (kind === 'platform' ? [connection] : []));
    await Promise.all(platform.map((connection) => connection.settled(PLATFORM_GRACE)));
  }

  /** @param data the data connection, if the session was another daemon's and had one */
  private control(
    kind: ControlKind,
    number: number,
    data?: KeptConnection,
    onDropped: (name: string, reason: string) => void = () => undefined,
  ): Serve {
    return (channel) => {
      const session = new ControlSession(
        this.link,
        (fd, onCommand) => {
          const name = connectionName('data', this.descriptors.number(), number);
          return this.open(fd, 'data', name, (dataChannel) => serveData(dataChannel, this.link, onCommand));
        },
        holderOf(channel.fd),
      );
      session.resume(
        channel.exchange.note,
        data && ((onCommand) => this.resume(data, (dataChannel) => serveData(dataChannel, this.link, onCommand), onDropped)),
      );
      return serveControl(channel, session, kind === 'fdcontrol');
    };
  }

  /** Undefined, and closed, if there are too many, or it is no connection. */
  private open(fd: number, kind: ConnectionKind, name: string, serve: Serve): Connection | undefined {
    if (this.connections.size >= this.link.limits.maxConnections) {
      this.link.onRejection('too_many');
      closeFd(fd);
      return undefined;
    }
    const channel = this.channel(fd, ExchangeMemory.create(exchangeSizes(kind), this.descriptors.available));
    if (channel === undefined) return undefined;
    const { fd: memory } = channel.exchange;
    if (memory !== undefined) this.descriptors.put(name, [channel.fd, memory]);
    return this.register(name, kind, serve(channel));
  }

  private resume(kept: KeptConnection, serve: Serve, onDropped: (name: string, reason: string) => void): Connection | undefined {
    if (this.connections.size >= this.link.limits.maxConnections) {
      this.link.onRejection('too_many');
      this.drop(kept, 'there are too many connections', onDropped);
      return undefined;
    }
    const channel = this.channel(kept.fd, kept.exchange);
    if (channel === undefined) {
      this.descriptors.remove(kept.name);
      onDropped(kept.name, 'it is not connected');
      return undefined;
    }
    return this.register(kept.name, kept.kind, serve(channel));
  }

  private channel(fd: number, exchange: ExchangeMemory): Channel | undefined {
    try {
      return new Channel(fd, exchange);
    } catch {
      return undefined;
    }
  }

  private register(name: string, kind: ConnectionKind, connection: Connection): Connection {
    this.connections.set(connection, kind);
    void connection.ended.then((ending) => {
      this.connections.delete(connection);
      if (ending !== 'left') this.descriptors.remove(name);
    });
    return connection;
  }

  private drop({ name, fd, exchange }: KeptConnection, reason: string, onDropped: (name: string, reason: string) => void): void {
    shutdownSocket(fd);
    closeFd(fd);
    exchange.close();
    this.descriptors.remove(name);
    onDropped(name, reason);
  }
}
