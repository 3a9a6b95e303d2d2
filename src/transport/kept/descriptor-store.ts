// Descriptors that outlive the daemon: sd_notify(3), FDSTORE, and sd_listen_fds(3). systemd keeps them, or `tpmux keep`.
import { fstatSync, type Stats } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { closeFd, DescriptorWatch, sdNotify, setCloseOnExec, socketPair } from '../../native/index.js';
import { reasonOf, systemCode } from '../../failure.js';

/** What the store is told of, apart from its own messages. */
export interface StoreEvents {
  /** Descriptors that nobody has a use for were closed. */
  readonly onDropped: (name: string, reason: string) => void;
  /** The service manager could not be told. */
  readonly onFailure: (reason: string) => void;
}

/** Descriptors that another daemon left, by their name without the guest. */
export interface KeptDescriptors {
  readonly name: string;
  readonly fds: readonly number[];
}

const FIRST_FD = 3;
const RETRY_MS = 50;
const FLUSH_MS = 2000;
const CLAIM_MS = 5000;
/** systemd takes no more of a name. */
const MAX_NAME = 255;
const SEPARATOR = '.';

/** Fields of messages to a keeper that answers machines while no daemon does: of this guest they are the daemon's, or the keeper's, to answer. */
export const CLAIM_FIELD = 'X_TPMUX_CLAIM';
export const RELEASE_FIELD = 'X_TPMUX_RELEASE';

interface Message {
  readonly state: string;
  /** Of the descriptors that it is about; empty if there are none. */
  readonly name: string;
  readonly fds: readonly number[];
  /** Called when it was sent, or cannot be. */
  readonly onSent?: () => void;
}

/** The descriptors that a service manager keeps for this process. */
export class DescriptorStore {
  private readonly kept = new Map<string, number[]>();
  private readonly queue: Message[] = [];
  private timer: NodeJS.Timeout | undefined;

  private constructor(
    /** Whether there is a service manager, which may keep descriptors. */
    readonly available: boolean,
    private readonly events: StoreEvents,
  ) {}

  /** A store that keeps nothing. */
  static none(): DescriptorStore {
    return new DescriptorStore(false, { onDropped: () => undefined, onFailure: () => undefined });
  }

  /**
   * Takes over what the service manager kept. The variables are removed from `environment`, so that programs that this process runs are
   * not misled.
   */
  static inherit(environment: NodeJS.ProcessEnv, events: StoreEvents): DescriptorStore {
    const notify = environment['NOTIFY_SOCKET'];
    const store = new DescriptorStore(notify !== undefined && notify !== '', events);
    const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names = '' } = environment;
    if (pid === process.pid.toString()) store.takeOver(Number(count), names.split(':'));
    for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) Reflect.deleteProperty(environment, name);
    return store;
  }

  /** What belongs to one guest. */
  of(guest: string): GuestDescriptors {
    return new GuestDescriptors(this, guest);
  }

  /** Takes all names that begin with `prefix` out of what was kept; the descriptors are the caller's. */
  take(prefix: string): { name: string; fds: number[] }[] {
    const taken = [...this.kept].filter(([name]) => name.startsWith(prefix)).map(([name, fds]) => ({ name, fds }));
    for (const { name } of taken) this.kept.delete(name);
    return taken;
  }

  /** Closes what was kept and not taken, unless it is of a guest that `wanted` says may still come. */
  dropUnused(wanted: (guest: string) => boolean): void {
    for (const name of [...this.kept.keys()]) {
      if (!wanted(name.slice(0, name.indexOf(SEPARATOR)))) this.drop(name, 'there is no such guest, or it is off');
    }
  }

  /** Closes what was kept under `prefix`. */
  dropAll(prefix: string, reason: string): void {
    for (const name of [...this.kept.keys()]) if (name.startsWith(prefix)) this.drop(name, reason);
  }

  /** Has duplicates of `fds` kept under a name of their own. */
  put(name: string, fds: readonly number[]): void {
    if (!this.available) return;
    if (name.length > MAX_NAME) throw new RangeError(`too long for the name of a descriptor: ${name}`);
    this.send({ state: `FDSTORE=1\nFDNAME=${name}`, name, fds });
  }

  /** Ends what {@link put} began. */
  remove(name: string): void {
    if (!this.available) return;
    const waiting = this.queue.findIndex((message) => message.name === name && message.fds.length > 0);
    if (waiting >= 0) this.queue.splice(waiting, 1);
    else this.send({ state: `FDSTOREREMOVE=1\nFDNAME=${name}`, name, fds: [] });
  }

  /**
   * Resolves when nobody else reads or writes on what is kept of `guest`: the service manager closes the descriptor of a barrier when it has
   * done all that was said before (sd_notify_barrier(3)).
   */
  async claim(guest: string): Promise<void> {
    if (!this.available) return;
    const [mine, theirs] = socketPair();
    const watch = new DescriptorWatch(mine);
    closeFd(mine);
    this.send({ state: `${CLAIM_FIELD}=${guest}`, name: '', fds: [] });
    this.send({
      state: 'BARRIER=1',
      name: '',
      fds: [theirs],
      onSent: () => {
        closeFd(theirs);
      },
    });
    const claimed = await Promise.race([watch.readable(), delay(CLAIM_MS, false, { ref: false })]);
    watch.close();
    if (!claimed) this.events.onFailure('it does not say that it has let go of the sockets');
  }

  /** Ends what {@link claim} began: the daemon does nothing any more with what is kept of `guest`. */
  release(guest: string): void {
    if (this.available) this.send({ state: `${RELEASE_FIELD}=${guest}`, name: '', fds: [] });
  }

  /** Resolves when the service manager has been told everything, or does not listen. */
  async flushed(): Promise<void> {
    const deadline = Date.now() + FLUSH_MS;
    while (this.queue.length > 0 && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    clearTimeout(this.timer);
  }

  private drop(name: string, reason: string): void {
    this.kept.get(name)?.forEach(closeFd);
    this.kept.delete(name);
    this.remove(name);
    this.events.onDropped(name, reason);
  }

  private takeOver(count: number, names: readonly string[]): void {
    for (let i = 0; i < count; i++) {
      const fd = FIRST_FD + i;
      // Where nothing was handed over, this process may have something of its own, which is neither.
      const found = statOf(fd);
      if (found?.isSocket() !== true && found?.isFile() !== true) {
        this.events.onFailure(`descriptor ${fd.toString()} was announced and is not there`);
        continue;
      }
      setCloseOnExec(fd);
      const name = names[i] ?? '';
      const same = this.kept.get(name);
      if (same === undefined) this.kept.set(name, [fd]);
      else same.push(fd);
    }
  }

  /** In order, and without waiting: a service manager that is busy must not keep guests waiting. */
  private send(message: Message): void {
    this.queue.push(message);
    if (this.timer === undefined) this.flush();
  }

  private flush(): void {
    this.timer = undefined;
    for (let next = this.queue[0]; next !== undefined; next = this.queue[0]) {
      try {
        sdNotify(next.state, next.fds, { wait: false });
      } catch (error) {
        const code = systemCode(error);
        if (code === 'EAGAIN' || code === 'ENOBUFS') {
          this.timer = setTimeout(() => {
            this.flush();
          }, RETRY_MS);
          return;
        }
        this.events.onFailure(reasonOf(error));
      }
      this.queue.shift();
      next.onSent?.();
    }
  }
}

function statOf(fd: number): Stats | undefined {
  try {
    return fstatSync(fd);
  } catch {
    return undefined;
  }
}

/** The part of the store that is one guest's. Names are `GUEST.NAME`, without colons. */
export class GuestDescriptors {
  private next = 1;

  constructor(
    private readonly store: DescriptorStore,
    private readonly guest: string,
  ) {}

  /** Whether there is a service manager, which may keep descriptors. */
  get available(): boolean {
    return this.store.available;
  }

  /** What another daemon left of the guest, once nobody else answers on it; the descriptors are the caller's. */
  async take(): Promise<KeptDescriptors[]> {
    const taken = this.store.take(this.prefix).map(({ name, fds }) => ({ name: name.slice(this.prefix.length), fds }));
    if (taken.length > 0) await this.store.claim(this.guest);
    return taken;
  }

  /** The daemon does nothing any more with what is kept: whoever answers meanwhile may begin. */
  release(): void {
    this.store.release(this.guest);
  }

  /** Closes what another daemon left and nobody took. */
  drop(reason: string): void {
    this.store.dropAll(this.prefix, reason);
  }

  /** A number that no other descriptors of the guest have, above `used`. */
  number(used = 0): number {
    this.next = Math.max(this.next, used + 1);
    return this.next++;
  }

  put(name: string, fds: readonly number[]): void {
    this.store.put(this.prefix + name, fds);
  }

  remove(name: string): void {
    this.store.remove(this.prefix + name);
  }

  private get prefix(): string {
    return this.guest + SEPARATOR;
  }
}
