// One guest: its life, with every operation after the one before it.
import { join } from 'node:path';
import { Failure, reasonOf } from '../failure.js';
import { GuestLog } from '../guest-log.js';
import type { GuestPolicy } from '../policy/guest-policy.js';
import type { PolicyChange } from '../policy/policy-changes.js';
import type { GuestMeta } from '../store/guest-meta.js';
import type { DescriptorStore } from '../transport/kept/descriptor-store.js';
import { dataSocketPath, GuestEndpoint } from '../transport/guest-endpoint.js';
import type { Rejection, TransportLimits } from '../transport/guest-link.js';
import type { LinePlace } from '../transport/line/line.js';
import { describeHolder } from '../transport/control/holder.js';
import { consoleSocket } from '../transport/line/socket-line.js';
import { tty } from '../transport/line/tty-line.js';
import type { OpenedGuest } from './factory.js';
import { GuestJournal, type JournalSite, VOLATILE_REFUSED } from './journal.js';
import { GuestDevice } from './device.js';
import type { GuestState, GuestView } from './view.js';
import { guestNotFound, guestNotRunning, guestRunning } from './failures.js';
import type { Logger } from '../logger.js';
import { preparePolicy, storePolicy, type PolicySurroundings } from './policies/change.js';
import { viewPolicy, type PolicyView } from './policies/view.js';
import { SerialQueue } from '../serial-queue.js';

/** What guests share. */
export interface GuestSurroundings extends PolicySurroundings {
  readonly log: Logger;
  /** Directory of all guests' socket directories. */
  readonly directory: string;
  readonly limits: TransportLimits;
  /** Where the guests' volatile state outlives the daemon. */
  readonly journals: JournalSite;
  /** Where the guests' sockets outlive the daemon. */
  readonly descriptors: DescriptorStore;
  /** How long a running command may take when a guest is stopped, in milliseconds. */
  readonly stopTimeout: number;
}

interface Running {
  readonly opened: OpenedGuest;
  readonly endpoint: GuestEndpoint;
  /** For what it can cause. */
  readonly log: GuestLog;
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
  private readonly device: GuestDevice;
  private removed = false;
  private readonly journal: GuestJournal;
  /** It failed because of its {@link journal}. */
  private journalRefused = false;

  constructor(
    private current: GuestMeta,
    private readonly host: GuestSurroundings,
  ) {
    this.journal = new GuestJournal(host.journals, current);
    this.device = new GuestDevice(current.name, host.log);
  }

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
      await this.setMeta({ autostart: true });
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
      await this.setMeta({ autostart: false });
      await this.close();
    });
  }

  /** For the daemon's own end: closes, and leaves what {@link resume} of the next daemon goes on with, because the machine goes on too. */
  suspend(): Promise<void> {
    return this.queue.run(() => this.close(true));
  }

  /**
   * Takes the power away and gives it back, as when the machine is reset. A guest whose volatile state was refused is started without it.
   */
  reset(): Promise<void> {
    return this.queue.run(async () => {
      this.requirePresent();
      if (this.running === undefined && this.journalRefused) {
        const { id, name } = this.current;
        await this.host.audit.note({ event: 'guest-reset', guest: name, id, detail: 'the volatile state that was refused is given up' });
        await this.journal.remove();
        await this.open();
        return;
      }
      const { tpm } = this.opened();
      await tpm.powerOff(true);
      await tpm.powerOn();
    });
  }

  /**
   * Gives the guest another policy; null is none. Resolves with what that changes. Rejects with a {@link Failure} if it cannot be used;
   * the guest keeps what it has then.
   */
  setPolicy(text: string | null): Promise<readonly PolicyChange[]> {
    return this.queue.run(() => {
      this.requirePresent();
      return this.changePolicy(text);
    });
  }

  /** As {@link setPolicy}, with the policy that it has: its class may be another one now. */
  refreshPolicy(): Promise<readonly PolicyChange[]> {
    return this.queue.run(() => {
      this.requirePresent();
      return this.changePolicy(this.current.policy);
    });
  }

  policyView(): PolicyView {
    return viewPolicy(this.host.policies, this.current, this.running?.opened);
  }

  /** Runs `use` while the guest is off and cannot be started. Rejects with a {@link Failure} if it runs. */
  whileOff<T>(use: (journal: GuestJournal) => Promise<T>): Promise<T> {
    return this.queue.run(() => {
      this.requirePresent();
      if (this.running !== undefined) throw guestRunning(this.current.name);
      return use(this.journal);
    });
  }

  /** As {@link whileOff}; afterwards this guest is no more, because `use` has put another in its place. */
  giveWay(use: () => Promise<void>): Promise<void> {
    return this.whileOff(async () => {
      await use();
      await this.journal.remove();
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

  /** Property providers that failed since the guest was started. */
  providerFailures(): readonly { readonly provider: string; readonly failures: number }[] {
    return [...(this.running?.opened.providerFailures() ?? [])].map(([provider, failures]) => ({ provider, failures }));
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
      device: this.device.path ?? null,
      tcti: `swtpm:path=${socket}`,
      connections: this.running?.endpoint.connectionCount ?? 0,
      machine: this.machine(),
    };
  }

  /**
   * Makes a TPM device on the host for the guest, now and each time that it starts; one that it has stays. Rejects with a
   * {@link Failure} where the kernel has no module for that.
   */
  attachDevice(): Promise<void> {
    return this.queue.run(async () => {
      this.requirePresent();
      this.opened();
      if (this.running !== undefined) await this.device.make(this.running.endpoint);
      await this.setMeta({ device: true });
    });
  }

  /** Takes the device away, and makes none any more. */
  detachDevice(): Promise<void> {
    return this.queue.run(async () => {
      this.requirePresent();
      await this.setMeta({ device: false });
      if (this.running !== undefined) await this.device.end(this.running.endpoint);
    });
  }

  private machine(): GuestView['machine'] {
    const holder = this.running?.endpoint.machine;
    return holder === undefined ? null : (holder ?? { pid: 0, program: '' });
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

  private async setMeta(change: { readonly autostart: boolean } | { readonly device: boolean }): Promise<void> {
    const changed = { ...this.current, ...change };
    if (changed.autostart === this.current.autostart && changed.device === this.current.device) return;
    await this.host.store.updateGuest(changed);
    this.current = changed;
  }

  private async changePolicy(text: string | null): Promise<readonly PolicyChange[]> {
    const prepared = await preparePolicy(this.host, this.current, text);
    this.current = await storePolicy(this.host, this.current, prepared);
    this.running?.opened.setPolicy(prepared.policy);
    return prepared.changes;
  }

  /** The policy to start with: its class may have changed since. */
  private async startingPolicy(): Promise<GuestPolicy> {
    const prepared = await preparePolicy(this.host, this.current);
    this.current = await storePolicy(this.host, this.current, prepared);
    return prepared.policy;
  }

  private async open(): Promise<void> {
    if (this.running !== undefined) return;
    this.failure = undefined;
    this.journalRefused = false;
    try {
      this.running = await this.openAndListen();
      if (this.current.device === true) await this.device.remake(this.running.endpoint);
    } catch (error) {
      this.failure = reasonOf(error);
      this.journalRefused = error instanceof Failure && error.code === VOLATILE_REFUSED;
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
    const { id, name } = this.current;
    const { store, factory, limits } = this.host;
    const policy = await this.startingPolicy();
    const keyBlobs = store.guestKeyBlobs(id);
    const opened = await factory.open({
      id,
      name,
      policy,
      keyBlobs,
      records: (stateKey) => store.guestRecords(id, stateKey),
      journal: (stateKey) => this.journal.open(stateKey),
    });
    try {
      const how = await this.journal.start(opened);
      this.host.log.info(`guest ${how}`, { guest: name });
      const log = new GuestLog(this.host.log, name);
      const endpoint = await GuestEndpoint.open({
        name,
        tpm: opened.tpm,
        description: opened.description,
        limits,
        directory: this.directory,
        tcpPort: this.current.listen.tcp,
        mssimPort: this.current.listen.mssim,
        lines: this.linePlaces(),
        descriptors: this.host.descriptors.of(id),
        onDropped: (what, reason) => {
          log.warn('a kept socket was closed', { what, reason });
        },
        onLineChange: ({ kind, path, open, reason }) => {
          log[reason === null ? 'info' : 'warn']('line', { kind, path, open, reason });
        },
        onWaiting: (waits, holds) => {
          log.warn('a connection to the control channel waits: a machine has the TPM to itself', {
            waits: describeHolder(waits),
            holds: describeHolder(holds),
          });
        },
        onRefusedState: (part, reason) => {
          log.error('a state blob was refused', { part, reason });
        },
        onRejection: (reason) => {
          this.rejections.set(reason, (this.rejections.get(reason) ?? 0) + 1);
          this.host.log.debug('connection ended', { guest: name, reason });
        },
        onDefect: (error) => {
          log.error('serving a connection failed', { reason: reasonOf(error) });
        },
      });
      return { opened, endpoint, log };
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  /** Without `goesOn` the power is off afterwards. */
  private async close(goesOn = false): Promise<void> {
    this.failure = undefined;
    const { running } = this;
    this.running = undefined;
    if (running !== undefined) await this.closeRunning(running, goesOn);
    if (goesOn) return;
    await this.journal.remove();
    // Of one that could not be opened.
    this.host.descriptors.of(this.current.id).drop('the guest was stopped');
  }

  private async closeRunning({ endpoint, opened, log: guestLog }: Running, goesOn: boolean): Promise<void> {
    const { log, stopTimeout, descriptors } = this.host;
    await (goesOn && descriptors.available ? endpoint.leave(stopTimeout) : endpoint.close(stopTimeout));
    guestLog.close();
    try {
      await (goesOn ? opened.suspend() : opened.tpm.powerOff(true));
    } catch (error) {
      // Its state cannot be read or written any more; it is off all the same.
      log.error(`guest could not be ${goesOn ? 'suspended' : 'powered off'} in order`, {
        guest: this.current.name,
        reason: reasonOf(error),
      });
    }
    await opened.close();
    if (goesOn) descriptors.of(this.current.id).release();
    log.info(goesOn ? 'guest suspended' : 'guest stopped', { guest: this.current.name });
  }
}
