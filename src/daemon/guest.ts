// One guest: its life, with every operation after the one before it.
import { join } from 'node:path';
import { reasonOf, systemCode } from '../failure.js';
import { createVtpmProxy, type VtpmProxy } from '../native/index.js';
import type { GuestMeta } from '../store/guest-meta.js';
import type { HostStore } from '../store/host-store.js';
import { dataSocketPath, GuestEndpoint } from '../transport/guest-endpoint.js';
import type { Rejection, TransportLimits } from '../transport/guest-link.js';
import type { LinePlace } from '../transport/line.js';
import type { LineView } from '../transport/line-server.js';
import { consoleSocket } from '../transport/socket-line.js';
import { tty } from '../transport/tty-line.js';
import type { AuditSink } from './audit-log.js';
import type { GuestFactory, OpenedGuest } from './guest-factory.js';
import { guestNotFound, guestNotRunning, guestRunning, noDevices } from './guest-failures.js';
import type { Logger } from './logger.js';
import { SerialQueue } from './serial-queue.js';

export type GuestState = 'off' | 'running' | 'failed';

/** What users see of a guest. */
export interface GuestView {
  readonly name: string;
  readonly id: string;
  readonly state: GuestState;
  /** Why it failed; null otherwise. */
  readonly reason: string | null;
  /** Whether its TPM has power; a running guest's has none between SHUTDOWN and the next INIT of its machine. */
  readonly powered: boolean;
  readonly created: string;
  readonly autostart: boolean;
  readonly policy: boolean;
  readonly socket: string;
  readonly control: string;
  readonly tcp: number | null;
  /** Command port of the simulator's protocol; the platform port is the next one. */
  readonly mssim: number | null;
  /** Ttys and console sockets. */
  readonly lines: readonly LineView[];
  /** Path of its TPM device on the host, or null if none was asked for. */
  readonly device: string | null;
  /** TCTI string for tpm2-tss programs. */
  readonly tcti: string;
  readonly connections: number;
}

/** What guests share. */
export interface GuestSurroundings {
  readonly store: HostStore;
  readonly factory: GuestFactory;
  readonly log: Logger;
  readonly audit: AuditSink;
  /** Directory of all guests' socket directories. */
  readonly directory: string;
  readonly limits: TransportLimits;
  /** How long a running command may take when a guest is stopped, in milliseconds. */
  readonly stopTimeout: number;
}

interface Running {
  readonly opened: OpenedGuest;
  readonly endpoint: GuestEndpoint;
}

/** One guest. Its methods may be called at any time; they take effect in the order of the calls. */
export class Guest {
  /** Connections ended or refused, by reason. */
  readonly rejections = new Map<Rejection, number>();
  private readonly queue = new SerialQueue();
  private running: Running | undefined;
  private failure: string | undefined;
  /** What was last noted in the audit log. */
  private refusal: string | undefined;
  private device: string | undefined;
  private removed = false;

  constructor(
    private current: GuestMeta,
    private readonly host: GuestSurroundings,
  ) {}

  get meta(): GuestMeta {
    return this.current;
  }

  get state(): GuestState {
    if (this.running !== undefined) return 'running';
    return this.failure === undefined ? 'off' : 'failed';
  }

  /** Opens the TPM, powers it on and listens. A guest that runs stays as it is. */
  start(): Promise<void> {
    return this.queue.run(async () => {
      this.requirePresent();
      await this.setAutostart(true);
      await this.open();
    });
  }

  /** As {@link start}, without a change to what is stored: for the daemon's own start. */
  resume(): Promise<void> {
    return this.queue.run(() => this.open());
  }

  /** Ends the running command, takes the power away and closes. */
  stop(): Promise<void> {
    return this.queue.run(async () => {
      this.requirePresent();
      await this.setAutostart(false);
      await this.close();
    });
  }

  /** As {@link stop}, without a change to what is stored: for the daemon's own end. */
  suspend(): Promise<void> {
    return this.queue.run(() => this.close());
  }

  /** Takes the power away and gives it back, as when the machine is reset. */
  reset(): Promise<void> {
    return this.queue.run(async () => {
      this.requirePresent();
      const { tpm } = this.opened();
      await tpm.powerOff();
      await tpm.powerOn();
    });
  }

  /** Runs `use` while the guest is off and cannot be started. Rejects with a {@link Failure} if it runs. */
  whileOff<T>(use: () => Promise<T>): Promise<T> {
    return this.queue.run(() => {
      this.requirePresent();
      if (this.running !== undefined) throw guestRunning(this.current.name);
      return use();
    });
  }

  /** As {@link whileOff}; afterwards this guest is no more, because `use` has put another in its place. */
  giveWay(use: () => Promise<void>): Promise<void> {
    return this.whileOff(async () => {
      await use();
      this.removed = true;
    });
  }

  /** Stops the guest and deletes all that is stored of it. */
  remove(): Promise<void> {
    return this.queue.run(async () => {
      this.requirePresent();
      const { id, name } = this.current;
      await this.host.audit.note({ event: 'guest-removed', guest: name, id });
      this.removed = true;
      await this.close();
      await this.host.store.removeGuest(this.current.id);
    });
  }

  /** The open TPM. Throws a {@link Failure} if the guest does not run. */
  opened(): OpenedGuest {
    if (this.running === undefined) throw guestNotRunning(this.current.name, this.failure);
    return this.running.opened;
  }

  view(): GuestView {
    const { name, id, created, autostart, policy, listen } = this.current;
    const socket = dataSocketPath(this.directory);
    return {
      name,
      id,
      state: this.state,
      reason: this.failure ?? null,
      powered: this.running?.opened.tpm.powered ?? false,
      created,
      autostart,
      policy: policy !== null,
      socket,
      control: `${socket}.ctrl`,
      tcp: listen.tcp ?? null,
      mssim: listen.mssim ?? null,
      lines: this.running?.endpoint.lineViews ?? this.linePlaces().map(({ kind, path }) => ({ kind, path, open: false, reason: null })),
      device: this.device ?? null,
      tcti: `swtpm:path=${socket}`,
      connections: this.running?.endpoint.connectionCount ?? 0,
    };
  }

  /**
   * Makes a TPM device on the host for the guest, until it stops; one that it has stays. Rejects with a {@link Failure} where the
   * kernel has no module for that.
   */
  attachDevice(): Promise<void> {
    return this.queue.run(async () => {
      this.requirePresent();
      this.opened();
      if (this.device !== undefined) return;
      const { fd, number } = this.makeDevice();
      const path = `/dev/tpm${number.toString()}`;
      await this.running?.endpoint.serveDevice(fd, () => {
        if (this.device === path) this.device = undefined;
      });
      this.device = path;
      this.host.log.info('device made', { guest: this.current.name, device: path });
    });
  }

  private makeDevice(): VtpmProxy {
    try {
      return createVtpmProxy();
    } catch (error) {
      const code = systemCode(error) ?? reasonOf(error);
      const missing = ['ENOENT', 'ENXIO', 'ENODEV', 'ENOTTY'].includes(code);
      throw noDevices(this.current.name, missing ? 'the kernel has no /dev/vtpmx' : `/dev/vtpmx cannot be used: ${code}`);
    }
  }

  private linePlaces(): LinePlace[] {
    const { serial = [], consoleSockets = [] } = this.current.listen;
    return [...serial.map(tty), ...consoleSockets.map(consoleSocket)];
  }

  private get directory(): string {
    return join(this.host.directory, this.current.name);
  }

  /** An operation may have waited while the guest was removed. */
  private requirePresent(): void {
    if (this.removed) throw guestNotFound(this.current.name);
  }

  private async setAutostart(autostart: boolean): Promise<void> {
    if (this.current.autostart === autostart) return;
    const changed = { ...this.current, autostart };
    await this.host.store.updateGuest(changed);
    this.current = changed;
  }

  private async open(): Promise<void> {
    if (this.running !== undefined) return;
    this.failure = undefined;
    try {
      this.running = await this.openAndListen();
      this.host.log.info('guest started', { guest: this.current.name });
    } catch (error) {
      this.failure = reasonOf(error);
      this.host.log.error('guest could not be started', { guest: this.current.name, reason: this.failure });
      await this.noteRefusal(this.failure);
      throw error;
    }
  }

  /** Once for each reason. A log that cannot be written does not hide it. */
  private async noteRefusal(detail: string): Promise<void> {
    if (this.refusal === detail) return;
    this.refusal = detail;
    const { id, name } = this.current;
    await this.host.audit.note({ event: 'guest-refused', guest: name, id, detail }).catch((error: unknown) => {
      this.host.log.error('a refusal could not be noted', { guest: name, reason: reasonOf(error) });
    });
  }

  private async openAndListen(): Promise<Running> {
    const { id, name, policy } = this.current;
    const { store, factory, limits } = this.host;
    const identity = store.guestIdentity(id);
    const opened = await factory.open({ id, name, policy, identity, records: (stateKey) => store.guestRecords(id, stateKey) });
    try {
      await opened.tpm.powerOn();
      const endpoint = await GuestEndpoint.open({
        name,
        tpm: opened.tpm,
        description: opened.description,
        limits,
        directory: this.directory,
        tcpPort: this.current.listen.tcp,
        mssimPort: this.current.listen.mssim,
        lines: this.linePlaces(),
        onLineChange: ({ kind, path, open, reason }) => {
          this.host.log[reason === null ? 'info' : 'warn']('line', { guest: name, kind, path, open, reason });
        },
        onRefusedState: (part, reason) => {
          this.host.log.error('a state blob was refused', { guest: name, part, reason });
        },
        onRejection: (reason) => {
          this.rejections.set(reason, (this.rejections.get(reason) ?? 0) + 1);
          this.host.log.debug('connection ended', { guest: name, reason });
        },
        onDefect: (error) => {
          this.host.log.error('serving a connection failed', { guest: name, reason: reasonOf(error) });
        },
      });
      return { opened, endpoint };
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  private async close(): Promise<void> {
    this.failure = undefined;
    const { running } = this;
    if (running === undefined) return;
    this.running = undefined;
    await running.endpoint.close(this.host.stopTimeout);
    try {
      await running.opened.tpm.powerOff();
    } catch (error) {
      // Its state cannot be read any more; it is off all the same.
      this.host.log.error('guest could not be powered off in order', { guest: this.current.name, reason: reasonOf(error) });
    }
    await running.opened.close();
    this.host.log.info('guest stopped', { guest: this.current.name });
  }
}
