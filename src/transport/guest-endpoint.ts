// All sockets of one guest.
import { chmod, mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { closeFd, shutdownSocket } from '../native/index.js';
import type { GuestTpm, StatePart } from '../vtpm/guest-tpm.js';
import type { Holder } from './control/holder.js';
import { ControlSession } from './control/session.js';
import { ControlLock } from './control/lock.js';
import { DescriptorStore, type GuestDescriptors } from './kept/descriptor-store.js';
import { GuestMemory } from './kept/guest-memory.js';
import { GuestConnections } from './guest-connections.js';
import { BUFFER_SIZE, type GuestLink, type Rejection, type TpmDescription, type TransportLimits } from './guest-link.js';
import { GUEST_MEMORY_NAME, listenerName, numberIn, sortKept, type ConnectionKind, type KeptGuest } from './kept/connections.js';
import type { LinePlace } from './line/line.js';
import { LineServer, type LineView } from './line/server.js';
import { listen, listensAt, type Address, type Listener } from './listener.js';
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
  /** What the service manager keeps of the guest for the next daemon, and kept of the last; nothing by default. */
  readonly descriptors?: GuestDescriptors | undefined;
  /** A kept descriptor was of no use and is closed; nobody is told by default. */
  readonly onDropped?: (name: string, reason: string) => void;
  readonly onRejection: (reason: Rejection) => void;
  /** A state blob was not taken; nobody is told by default. */
  readonly onRefusedState?: (part: StatePart, reason: string) => void;
  /** See `GuestLink.onWaiting`. */
  readonly onWaiting?: GuestLink['onWaiting'];
  readonly onDefect: (error: unknown) => void;
}

const TCP_HOST = '127.0.0.1';

/** Path of the data socket in a guest's directory; the control channel is at the same path plus `.ctrl`. */
export function dataSocketPath(directory: string): string {
  return join(directory, 'tpm.sock');
}

/** All ways to one guest: sockets, lines, a device. */
export class GuestEndpoint {
  private readonly listeners: { readonly name: string; readonly listener: Listener }[] = [];
  private readonly connections: GuestConnections;
  private readonly memory: GuestMemory | undefined;
  private readonly link: GuestLink;
  private readonly descriptors: GuestDescriptors;
  private lines: readonly LineServer[] = [];
  private device: DeviceServer | undefined;

  private constructor(
    private readonly options: EndpointOptions,
    private readonly kept: KeptGuest,
    descriptors: GuestDescriptors,
  ) {
    const { name, tpm, description, limits, onRejection, onDefect } = options;
    const { onRefusedState = (): void => undefined, onWaiting = (): void => undefined } = options;
    this.descriptors = descriptors;
    const memory = GuestMemory.open(kept.memory, descriptors);
    this.memory = memory;
    const earlier = memory?.read();
    tpm.bufferSize = earlier?.bufferSize ?? BUFFER_SIZE.max;
    this.link = {
      name,
      tpm,
      description,
      limits,
      locality: earlier?.locality ?? 0,
      incoming: false,
      lock: new ControlLock(),
      remember: () => memory?.write(this.link),
      onRejection,
      onRefusedState,
      onWaiting,
      onDefect,
    };
    this.connections = new GuestConnections(this.link, descriptors);
  }

  /**
   * Listens on all addresses or none, and goes on with the connections that another daemon left. Rejects with a {@link Failure} that names
   * the address.
   */
  static async open(options: EndpointOptions): Promise<GuestEndpoint> {
    const { descriptors = DescriptorStore.none().of(options.name), onDropped = (): void => undefined } = options;
    const dropped = (name: string, reason: string): void => {
      descriptors.remove(name);
      onDropped(name, reason);
    };
    const kept = sortKept(await descriptors.take(), dropped);
    const endpoint = new GuestEndpoint(options, kept, descriptors);
    try {
      await mkdir(options.directory, { recursive: true, mode: 0o700 });
      await chmod(options.directory, 0o700);
      await endpoint.listen(dropped);
      await endpoint.takeOver(dropped);
    } catch (error) {
      await endpoint.close(0);
      throw error;
    }
    const { lines = [], onLineChange = (): void => undefined } = options;
    endpoint.lines = lines.map((place) => new LineServer(place, endpoint.link, onLineChange));
    return endpoint;
  }

  /** Number of connections at the moment. */
  get connectionCount(): number {
    return this.connections.count;
  }

  /** The machine that has the TPM: null if it is not known which, undefined if none has. */
  get machine(): Holder | null | undefined {
    const { heldBy } = this.link.lock;
    return heldBy && (heldBy.holder ?? null);
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

  /** Takes the device away, if there is one. */
  async endDevice(): Promise<void> {
    await this.device?.close(0);
    this.device = undefined;
  }

  /** Accepts nothing more, lets running commands end (at most `grace` milliseconds), removes the sockets. */
  async close(grace: number): Promise<void> {
    for (const { name, listener } of this.listeners) {
      listener.close();
      this.descriptors.remove(name);
    }
    await Promise.all([this.connections.finish(grace), this.closeRest(grace)]);
    if (this.memory !== undefined) this.descriptors.remove(GUEST_MEMORY_NAME);
    this.memory?.close();
    // Closing a listener removes its socket; what somebody else put into the directory stays.
    await rmdir(this.options.directory).catch(() => undefined);
  }

  /** As {@link close}, but for the peers of the sockets nothing happens: the next daemon goes on. */
  async leave(grace: number): Promise<void> {
    for (const { listener } of this.listeners) listener.leave();
    await Promise.all([this.connections.leave(grace), this.closeRest(grace)]);
    this.memory?.close();
  }

  private async closeRest(grace: number): Promise<void> {
    await Promise.all([...this.lines.map((line) => line.close(grace)), this.device?.close(grace)]);
  }

  private async listen(onDropped: (name: string, reason: string) => void): Promise<void> {
    const unused = new Set(this.kept.listeners);
    for (const [address, kind] of addresses(this.options)) {
      const accept = (fd: number): void => {
        this.connections.accept(fd, kind);
      };
      let found;
      for (const each of unused) if (found === undefined && (await listensAt(each.socket, address))) found = each;
      if (found === undefined) {
        const listener = await listen(address, accept);
        const name = listenerName(this.descriptors.number(Math.max(0, ...this.kept.listeners.map((each) => numberIn(each.name)))));
        this.listeners.push({ name, listener });
        this.descriptors.put(name, [listener.fd]);
      } else {
        unused.delete(found);
        this.listeners.push({ name: found.name, listener: await listen(address, accept, found.fd) });
      }
    }
    for (const { name, fd } of unused) {
      closeFd(fd);
      onDropped(name, 'the guest does not listen there');
    }
  }

  /** Brings the TPM to where the machine had it, then answers. */
  private async takeOver(onDropped: (name: string, reason: string) => void): Promise<void> {
    const { link, kept } = this;
    const before = this.memory?.read();
    // The machine ended while no daemon was there, or state that was put in has been lost.
    const ended = kept.lostControls.some((note) => ControlSession.leavesTraces(note)) || before?.incoming === true;
    if ((ended || before?.off === true) && link.tpm.powered) await link.tpm.powerOff();
    if (ended) {
      await link.tpm.powerOn();
      link.locality = 0;
    }
    link.remember();
    if (before?.incoming !== true) {
      this.connections.takeOver(kept.connections, onDropped);
      return;
    }
    for (const { name, fd, exchange } of kept.connections) {
      shutdownSocket(fd);
      closeFd(fd);
      exchange.close();
      onDropped(name, 'state was being put into the TPM');
    }
  }
}

function addresses({ directory, tcpPort, mssimPort }: EndpointOptions): [Address, ConnectionKind][] {
  const path = dataSocketPath(directory);
  const onLoopback = (port: number | undefined, first: ConnectionKind, second: ConnectionKind): [Address, ConnectionKind][] =>
    port === undefined
      ? []
      : [
          [{ host: TCP_HOST, port: port + 1 }, second],
          [{ host: TCP_HOST, port }, first],
        ];
  return [
    [{ path: `${path}.ctrl` }, 'fdcontrol'],
    [{ path }, 'data'],
    ...onLoopback(tcpPort, 'data', 'control'),
    ...onLoopback(mssimPort, 'mssim', 'platform'),
  ];
}
