// Seals the guests' state keys anew, to whom the configuration says now.
import { reasonOf } from '../failure.js';
import type { Logger } from '../logger.js';
import type { HostStore } from '../store/host-store.js';
import type { GuestFactory } from './factory.js';

/** What came of {@link resealGuests}. */
export interface ResealResult {
  /** Names of guests. */
  readonly resealed: readonly string[];
  readonly failed: readonly { readonly guest: string; readonly reason: string }[];
}

/** What {@link resealGuests} works with. */
export interface ResealSurroundings {
  readonly store: HostStore;
  readonly factory: GuestFactory;
  readonly log: Logger;
}

/** Seals the state key of every guest of the store anew. A guest that fails stays as it is. */
export async function resealGuests({ store, factory, log }: ResealSurroundings): Promise<ResealResult> {
  const resealed: string[] = [];
  const failed: { guest: string; reason: string }[] = [];
  for (const { id, name } of store.guests()) {
    try {
      await store.updateKeyBlobs(id, await factory.reseal(name, store.guestKeyBlobs(id)));
      log.info('state key sealed anew', { guest: name });
      resealed.push(name);
    } catch (error) {
      failed.push({ guest: name, reason: reasonOf(error) });
      log.error('state key could not be sealed anew', { guest: name, reason: reasonOf(error) });
    }
  }
  return { resealed, failed };
}
