// Tells when an older copy of the store, or of one guest's records, was put in place of the newest.
import { EXIT, Failure, reasonOf } from '../../failure.js';
import type { HostCounter } from '../../hardware/host/counter.js';
import type { HostStore } from '../../store/host-store.js';
import type { Logger } from '../../logger.js';
import type { Lease, LeaseSeal } from './lease.js';
import { SerialQueue } from '../../serial-queue.js';

/** Host record with the {@link Lease}. */
export const LEASE_RECORD = 'rollback-lease';
/** Most increments of the counter in one day (UTC), however often the daemon is restarted: a chip bears some hundred thousand. */
export const INCREMENTS_PER_DAY = 48;
const DAY_MS = 86_400_000;

/** What was found and what came of it. */
export interface RollbackEvent {
  /** The guest's name; undefined if it is the whole store. */
  readonly guest: string | undefined;
  readonly reason: string;
  readonly allowed: boolean;
}

/** What the guard works with. */
export interface RollbackGuardParts {
  readonly store: HostStore;
  readonly counter: HostCounter;
  readonly seal: LeaseSeal;
  readonly log: Logger;
  /** First NV index that is tried for the counter. */
  readonly firstIndex: number;
  /** Whether what is detected is let pass. */
  readonly allow: boolean;
  /** How often the counter is incremented while guests change their state, in milliseconds. */
  readonly interval: number;
  /** Told of everything that is detected; awaited before anything else happens. */
  readonly onDetected?: ((event: RollbackEvent) => void | Promise<void>) | undefined;
}

/** What the guard needs of a guest's records. */
export interface Numbered {
  /** Number of the last commit; 0 before the first. */
  sequence(): Promise<bigint>;
}

/** What users see of it. */
export interface RollbackView {
  readonly whenDetected: 'refuse' | 'allow';
  /** NV index of the counter. */
  readonly index: number;
  readonly counter: string | null;
  /** When the counter was last incremented; null if not since the daemon started. */
  readonly renewed: string | null;
}

/**
 * Binds the store to a counter of the chip. A lease in the store names the counter's value and how far each guest's commits had come; it is
 * written first, then the counter is incremented: at every start, at every clean end, and in between when there were commits. So a copy of
 * the store is good until the next increment, and no longer. A crash leaves a lease that is one ahead, which is accepted.
 */
export class RollbackGuard {
  private lease: Lease = { index: 0, counter: undefined, day: 0, increments: 0, guests: new Map() };
  private readonly live = new Map<string, Numbered>();
  /** Guests whose records are being put back: they may not be in the store yet. */
  private readonly accepted = new Set<string>();
  private readonly queue = new SerialQueue();
  private timer: NodeJS.Timeout | undefined;
  private renewed: Date | undefined;
  /** The commits that the last increment covers. */
  private covered = '';

  private constructor(private readonly parts: RollbackGuardParts) {}

  /** Compares the store with the counter. Rejects with a {@link Failure} (exit code 3) if the store is an older copy, and as the chip does. */
  static async open(parts: RollbackGuardParts): Promise<RollbackGuard> {
    const guard = new RollbackGuard(parts);
    await guard.check();
    await guard.queue.run(() => guard.renew());
    guard.timer = setInterval(() => {
      void guard.queue.run(() => guard.renewIfUsed());
    }, parts.interval).unref();
    return guard;
  }

  view(): RollbackView {
    const { index, counter } = this.lease;
    return {
      whenDetected: this.parts.allow ? 'allow' : 'refuse',
      index,
      counter: counter?.toString() ?? null,
      renewed: this.renewed?.toISOString() ?? null,
    };
  }

  /**
   * A guest is about to be opened, before its first commit. Rejects with a {@link Failure} (exit code 3) if its records are older than
   * what it had committed, or if it is not known to have any.
   */
  admit(id: string, name: string, records: Numbered): Promise<void> {
    return this.queue.run(async () => {
      const sequence = await records.sequence();
      const known = this.lease.guests.get(id);
      if (known === undefined && sequence > 0n)
        await this.detected('it is not known to this store: it was removed, or comes from another one', name);
      if (known !== undefined && sequence < known) {
        await this.detected(
          `its records are as of commit ${sequence.toString()}, but it had reached ${known.toString()}: they are an older copy`,
          name,
        );
      }
      if (known === undefined || sequence < known) await this.write({ guests: new Map([...this.lease.guests, [id, sequence]]) });
      this.live.set(id, records);
      this.accepted.delete(id);
    });
  }

  /** A guest was closed. Never rejects. */
  release(id: string): Promise<void> {
    return this.queue.run(async () => {
      try {
        await this.write({});
      } catch (error) {
        this.parts.log.warn('could not note how far a guest has come', { guest: id, reason: reasonOf(error) });
      }
      this.live.delete(id);
    });
  }

  /**
   * The guest's records are replaced on purpose, as from a backup: whatever they are at its next start is good. Best called before they
   * are replaced, so that a crash in between is not taken for a rollback.
   */
  accept(id: string): Promise<void> {
    this.accepted.add(id);
    return this.queue.run(() => this.write({ guests: new Map([...this.lease.guests, [id, 0n]]) }));
  }

  /** Increments the counter for the last time, so that copies that were made until now are old. Never rejects. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.queue.run(() => this.renew());
  }

  private async check(): Promise<void> {
    const { store, counter, seal, firstIndex } = this.parts;
    const stored = store.hostRecord(LEASE_RECORD);
    if (stored === undefined) {
      const index = await counter.find(firstIndex);
      if (index !== undefined) await this.detected(`it has no record of the counter 0x${index.toString(16)}, which was made for it`);
      await this.adopt(index);
      return;
    }
    const lease = seal.decode(stored);
    const reason = lease === undefined ? 'its record of the counter was changed' : await this.appraise(lease);
    if (lease !== undefined && reason === undefined) {
      this.lease = lease;
      if (lease.counter === undefined) await this.makeCounter();
      return;
    }
    await this.detected(reason ?? '');
    await this.adopt(await counter.find(firstIndex));
  }

  /** Why the store is not the newest, or undefined if it is. */
  private async appraise(lease: Lease): Promise<string | undefined> {
    if (lease.counter === undefined) return undefined;
    const value = await this.parts.counter.read(lease.index);
    if (typeof value !== 'bigint') return `the counter 0x${lease.index.toString(16)} was removed from the TPM`;
    if (value === lease.counter || value + 1n === lease.counter) return undefined;
    const numbers = `the TPM counts ${value.toString()}, the store ${lease.counter.toString()}`;
    return value > lease.counter ? `it is an older copy: ${numbers}` : `it belongs to another counter: ${numbers}`;
  }

  /**
   * Begins to count. What the guests are now is good. A counter that was this host's is removed: the new one starts above it.
   * A crash before the counter has a value leaves a lease without, which is where it goes on.
   */
  private async adopt(old: number | undefined): Promise<void> {
    const { store, counter, log } = this.parts;
    const guests = new Map(store.guests().map(({ id }) => [id, 0n]));
    await this.write({ index: 0, counter: undefined, guests });
    if (old !== undefined) await counter.remove(old);
    await this.makeCounter();
    log.info('older copies of the state are told by a counter of the TPM from now on', { index: `0x${this.lease.index.toString(16)}` });
  }

  private async makeCounter(): Promise<void> {
    const { counter, firstIndex } = this.parts;
    const index = await counter.define(firstIndex);
    const value = await counter.advance(index, 'unused');
    if (typeof value !== 'bigint') throw new Error(`the counter 0x${index.toString(16)} of the TPM is ${value}`);
    await this.write({ index, counter: value });
  }

  private async renewIfUsed(): Promise<void> {
    if (this.commits(await this.sequences()) !== this.covered) await this.renew();
  }

  /** Writes a lease and increments the counter to it. What fails is logged: the store stays good, and so do older copies. */
  private async renew(): Promise<void> {
    const { counter, log } = this.parts;
    const { counter: leased, index } = this.lease;
    if (leased === undefined) return;
    try {
      // An increment that failed the last time is made up for.
      const value = await counter.advance(index, leased - 1n);
      if (value !== leased)
        throw new Error(`the counter 0x${index.toString(16)} of the TPM is ${value.toString()}, not ${leased.toString()}`);
      const today = Math.max(Math.floor(Date.now() / DAY_MS), this.lease.day);
      const increments = today === this.lease.day ? this.lease.increments : 0;
      if (increments >= INCREMENTS_PER_DAY) {
        log.warn('the counter of the TPM is not incremented more often today', { increments });
        await this.write({});
        return;
      }
      await this.write({ counter: leased + 1n, day: today, increments: increments + 1 });
      await counter.advance(index, leased);
      this.renewed = new Date();
      this.covered = this.commits(this.lease.guests);
    } catch (error) {
      log.warn('the counter that tells older copies of the state could not be incremented', { reason: reasonOf(error) });
    }
  }

  /** Stores the lease with these changes and how far the guests have come. */
  private async write(changes: Partial<Lease>): Promise<void> {
    const { store, seal } = this.parts;
    const merged = { ...this.lease, ...changes };
    const guests = new Map([...merged.guests, ...(changes.guests === undefined ? await this.sequences() : [])]);
    const existing = new Set([...store.guests().map(({ id }) => id), ...store.damagedGuests().map(({ guest }) => guest), ...this.accepted]);
    for (const id of guests.keys()) if (!existing.has(id)) guests.delete(id);
    const lease = { ...merged, guests };
    await store.putHostRecords(new Map([[LEASE_RECORD, seal.encode(lease)]]));
    this.lease = lease;
  }

  private async sequences(): Promise<Map<string, bigint>> {
    const reached = new Map(this.lease.guests);
    for (const [id, records] of this.live) {
      // Records that cannot be read any more are as they were.
      const sequence = await records.sequence().catch(() => undefined);
      if (sequence !== undefined && sequence > (reached.get(id) ?? -1n)) reached.set(id, sequence);
    }
    return reached;
  }

  private commits(guests: ReadonlyMap<string, bigint>): string {
    return [...guests].map(([id, sequence]) => `${id}:${sequence.toString()}`).join();
  }

  private async detected(reason: string, guest?: string): Promise<void> {
    const { allow, log, onDetected, store } = this.parts;
    await onDetected?.({ guest, reason, allowed: allow });
    const what = guest === undefined ? `opening the store ${store.directory}` : `opening guest ${guest}`;
    if (allow) {
      log.error('OLDER STATE IS USED, because rollback.when-detected is allow', { what, reason });
      return;
    }
    const hint = "put the newest state back, or accept this one by starting once with 'rollback: {when-detected: allow}'";
    throw new Failure({ code: 'rollback', what, why: reason, hint, exit: EXIT.refused });
  }
}
