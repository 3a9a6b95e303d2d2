// All guests of the host.
import { randomUUID } from 'node:crypto';
import { parseRecoveryPublicKey, RecoveryKeyError, wrapSecret } from '../crypto/recovery-key.js';
import { EXIT, Failure, reasonOf } from '../failure.js';
import type { GuestPolicy } from '../policy/guest-policy.js';
import type { PolicyChange } from '../policy/policy-changes.js';
import type { GuestListen } from '../config/listen.js';
import type { GuestMeta } from '../store/guest-meta.js';
import { recoveryContext } from './backups/document.js';
import { Guest, type GuestSurroundings } from './guest.js';
import { guestExists, guestNotFound, guestPresent, shuttingDown } from './failures.js';
import { checkName } from './name.js';
import { checkClaims } from './listen-claims.js';
import { resealGuests, type ResealResult } from './reseal.js';

/** What a new guest is to be. */
export interface NewGuest {
  readonly name: string;
  /** Text of its policy file. */
  readonly policy?: string | undefined;
  /** Start it at once; default true. */
  readonly start?: boolean | undefined;
  readonly listen?: GuestListen | undefined;
  /** X25519 public key (PEM) whose holder may open backups without the chip. */
  readonly recoveryKey?: string | undefined;
}

/** What came of reading the policy classes again. */
export interface PolicyReload {
  /** Classes that can be used. */
  readonly classes: readonly string[];
  /** What is wrong with the others. */
  readonly problems: readonly string[];
  /** Guests whose policies changed, or cannot be used: these keep what they have, and cannot be started. */
  readonly guests: readonly { readonly guest: string; readonly changes: readonly PolicyChange[]; readonly reason: string | null }[];
}

/** The guests of a host, by name. */
export class GuestRegistry {
  private readonly guests = new Map<string, Guest>();
  /** Names that a create is at work on. */
  private readonly reserved = new Map<string, GuestListen>();
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
    const { name, policy, listen = {} } = wanted;
    checkName(name);
    if (this.guests.has(name) || this.reserved.has(name)) throw guestExists(name);
    checkClaims(name, listen, this.claims());
    const { policies, factory } = this.surroundings;
    const text = policy ?? policies.defaultText;
    const resolved = policies.resolve(text, `of guest ${name}`);
    const recoveryKey = wanted.recoveryKey === undefined ? undefined : readRecoveryKey(wanted.recoveryKey);
    this.reserved.set(name, listen);
    try {
      await factory.checkPolicy(name, resolved);
      const guest = await this.provision({ ...wanted, policy: text }, resolved, recoveryKey);
      if (wanted.start !== false) await this.startOrRemove(guest);
      this.guests.set(name, guest);
      return guest;
    } finally {
      this.reserved.delete(name);
    }
  }

  /**
   * Puts a guest from elsewhere in its place; `write` stores it. With `replace` it may take the place of the same guest, which must
   * be off.
   */
  async restore(meta: GuestMeta, replace: boolean, write: () => Promise<void>): Promise<Guest> {
    if (this.closing) throw shuttingDown();
    const { id, name, listen } = meta;
    const present = this.list().find((guest) => guest.meta.id === id);
    const damaged = this.surroundings.store.damagedGuests().some(({ guest }) => guest === id);
    if (this.reserved.has(name) || (this.guests.has(name) && this.guests.get(name) !== present)) throw guestExists(name);
    if ((present !== undefined || damaged) && !replace) throw guestPresent(present?.meta.name ?? name);
    const others = this.claims().filter(([other]) => other !== present?.meta.name);
    checkClaims(name, listen, others);
    this.reserved.set(name, listen);
    try {
      await (present === undefined ? write() : present.giveWay(write));
      if (present !== undefined) this.guests.delete(present.meta.name);
      const guest = new Guest(meta, this.surroundings);
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

  /** Reads the policy classes again and gives every guest what its policy comes to now. A guest that fails keeps what it has. */
  async reloadPolicies(): Promise<PolicyReload> {
    const { policies, log } = this.surroundings;
    await policies.reload();
    const guests: { guest: string; changes: readonly PolicyChange[]; reason: string | null }[] = [];
    for (const guest of this.list()) {
      const { name } = guest.meta;
      try {
        const changes = await guest.refreshPolicy();
        if (changes.length > 0) guests.push({ guest: name, changes, reason: null });
      } catch (error) {
        log.error('a guest keeps its policy, because the present one cannot be used', { guest: name, reason: reasonOf(error) });
        guests.push({ guest: name, changes: [], reason: reasonOf(error) });
      }
    }
    // What was refused because of its policy.
    await this.resumeAll();
    return { classes: policies.classNames, problems: policies.problems.map(({ what, why }) => `${what}: ${why}`), guests };
  }

  /** Seals the state keys of all guests anew; see {@link resealGuests}. */
  reseal(): Promise<ResealResult> {
    return resealGuests(this.surroundings);
  }

  /** Starts the guests that are to run. One that fails keeps its reason; the others go on. */
  async resumeAll(): Promise<void> {
    for (const guest of this.list()) {
      if (guest.meta.autostart && !this.closing) await guest.resume().catch(() => undefined);
    }
  }

  /** Stops all guests, to be started again by {@link resumeAll} of the next daemon. */
  async suspendAll(): Promise<void> {
    this.closing = true;
    const results = await Promise.allSettled(this.list().map((guest) => guest.suspend()));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  private async provision(
    { name, policy: text, listen = {} }: Omit<NewGuest, 'policy'> & { readonly policy: string | null },
    policy: GuestPolicy,
    recoveryKey: Buffer | undefined,
  ): Promise<Guest> {
    const { audit, factory, store } = this.surroundings;
    const id = randomUUID();
    const keyBlobs = await factory.provision(id, policy);
    const policyInForce = JSON.stringify(policy.settings);
    const meta = { id, name, created: new Date().toISOString(), policy: text, policyInForce, listen, autostart: false };
    const key = recoveryKey === undefined ? 'no recovery key' : `recovery key ${recoveryKey.toString('hex')}`;
    const detail = `${key}, policy ${policy.hash}`;
    await audit.note({ event: 'guest-created', guest: name, id, detail });
    const recovery = recoveryKey === undefined ? null : await this.wrappedStateKey(meta, keyBlobs, recoveryKey);
    await store.restoreGuest({ meta, keyBlobs, recovery, sealed: [] });
    return new Guest(meta, this.surroundings);
  }

  private async wrappedStateKey({ id, name }: GuestMeta, keyBlobs: Buffer, recoveryKey: Buffer): Promise<Buffer> {
    const stateKey = await this.surroundings.factory.stateKey(name, keyBlobs);
    try {
      return await wrapSecret(recoveryKey, stateKey, recoveryContext(id));
    } finally {
      stateKey.fill(0);
    }
  }

  private async startOrRemove(guest: Guest): Promise<void> {
    try {
      await guest.start();
    } catch (error) {
      await guest.remove();
      throw error;
    }
  }

  private claims(): (readonly [string, GuestListen])[] {
    return [...[...this.guests.values()].map(({ meta }) => [meta.name, meta.listen] as const), ...this.reserved];
  }
}

function readRecoveryKey(pem: string): Buffer {
  try {
    return parseRecoveryPublicKey(pem);
  } catch (error) {
    if (!(error instanceof RecoveryKeyError)) throw error;
    throw new Failure({
      code: 'bad_recovery_key',
      what: 'reading the recovery key',
      why: error.message,
      hint: 'make a pair with: openssl genpkey -algorithm x25519 -out recovery.pem; openssl pkey -in recovery.pem -pubout -out recovery.pub',
      exit: EXIT.usage,
    });
  }
}
