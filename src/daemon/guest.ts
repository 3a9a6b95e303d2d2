// One guest: its life, with every operation after the one before it.
import { join } from 'node:path';
import { reasonOf } from '../failure.js';
import type { GuestMeta } from '../store/guest-meta.js';
import type { HostStore } from '../store/host-store.js';
import { dataSocketPath, GuestEndpoint } from '../transport/guest-endpoint.js';
import type { Rejection, TransportLimits } from '../transport/guest-link.js';
import type { GuestFactory, OpenedGuest } from './guest-factory.js';
import { guestNotFound, guestNotRunning } from './guest-failures.js';
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
  /** TCTI string for tpm2-tss programs. */
  readonly tcti: string;
  readonly connections: number;
}

/** What guests share. */
export interface GuestSurroundings {
  readonly store: HostStore;
  readonly factory: GuestFactory;
  readonly log: Logger;
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

  /** Stops the guest and deletes all that is stored of it. */
  remove(): Promise<void> {
    return this.queue.run(async () => {
      this.requirePresent();
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
      tcti: `swtpm:path=${socket}`,
      connections: this.running?.endpoint.connectionCount ?? 0,
    };
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
      throw error;
    }
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
