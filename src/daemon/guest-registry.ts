// All guests of the host.
import { randomUUID } from 'node:crypto';
import { Guest, type GuestSurroundings } from './guest.js';
import { guestExists, guestNotFound, portTaken, shuttingDown } from './guest-failures.js';
import { checkName } from './guest-name.js';

/** What a new guest is to be. */
export interface NewGuest {
  readonly name: string;
  /** Text of its policy file. */
  readonly policy?: string | undefined;
  /** Start it at once; default true. */
  readonly start?: boolean | undefined;
  /** Data port on 127.0.0.1; the control channel is on the next port. */
  readonly tcp?: number | undefined;
}

/** The guests of a host, by name. */
export class GuestRegistry {
  private readonly guests = new Map<string, Guest>();
  /** Names that a create is at work on. */
  private readonly reserved = new Map<string, number | undefined>();
  private closing = false;

  constructor(private readonly surroundings: GuestSurroundings) {
    for (const meta of surroundings.store.guests()) this.guests.set(meta.name, new Guest(meta, surroundings));
  }

  /** All guests, by name. */
  list(): Guest[] {
    return [...this.guests.values()].sort((a, b) => (a.meta.name < b.meta.name ? -1 : 1));
  }

  /** Throws a {@link Failure} if there is no such guest. */
  get(name: string): Guest {
    const guest = this.guests.get(name);
    if (guest === undefined) throw guestNotFound(name);
    return guest;
  }

  /** Makes a guest and starts it. If it cannot be started there is no new guest. */
  async create(wanted: NewGuest): Promise<Guest> {
    if (this.closing) throw shuttingDown();
    const { name, policy, tcp } = wanted;
    checkName(name);
    if (this.guests.has(name) || this.reserved.has(name)) throw guestExists(name);
    this.checkPort(name, tcp);
    if (policy !== undefined) this.surroundings.factory.checkPolicy(policy);
    this.reserved.set(name, tcp);
    try {
      const guest = await this.provision(wanted);
      if (wanted.start !== false) await this.startOrRemove(guest);
      this.guests.set(name, guest);
      return guest;
    } finally {
      this.reserved.delete(name);
    }
  }

  async remove(name: string): Promise<void> {
    const guest = this.get(name);
    await guest.remove();
    if (this.guests.get(name) === guest) this.guests.delete(name);
  }

  /** Starts the guests that are to run. One that fails keeps its reason; the others go on. */
  async resumeAll(): Promise<void> {
    for (const guest of this.list()) {
      if (guest.meta.autostart) await guest.resume().catch(() => undefined);
    }
  }

  /** Stops all guests, to be started again by {@link resumeAll} of the next daemon. */
  async suspendAll(): Promise<void> {
    this.closing = true;
    const results = await Promise.allSettled(this.list().map((guest) => guest.suspend()));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  private async provision({ name, policy, tcp }: NewGuest): Promise<Guest> {
    const { factory, store } = this.surroundings;
    const id = randomUUID();
    const identity = await factory.provision(id);
    const listen = tcp === undefined ? {} : { tcp };
    const meta = { id, name, created: new Date().toISOString(), policy: policy ?? null, listen, autostart: false };
    await store.addGuest(meta, identity);
    return new Guest(meta, this.surroundings);
  }

  private async startOrRemove(guest: Guest): Promise<void> {
    try {
      await guest.start();
    } catch (error) {
      await guest.remove();
      throw error;
    }
  }

  private checkPort(name: string, port: number | undefined): void {
    if (port === undefined) return;
    const taken = [...this.guests.values()].map(({ meta }) => [meta.name, meta.listen.tcp] as const);
    for (const [other, used] of [...taken, ...this.reserved]) {
      if (used !== undefined && Math.abs(used - port) < 2) throw portTaken(name, port, other);
    }
  }
}
