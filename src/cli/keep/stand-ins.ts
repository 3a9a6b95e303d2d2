// Who answers the guests' machines while no daemon does.
import { reasonOf } from '../../failure.js';
import type { KeptDescriptors } from '../../transport/kept/descriptor-store.js';
import { StandIn } from '../../transport/kept/stand-in.js';

/** The guest in the name of a descriptor, and the name that is left. */
export function splitName(name: string): [guest: string, rest: string] {
  const end = name.indexOf('.');
  return end < 0 ? ['', name] : [name.slice(0, end), name.slice(end + 1)];
}

/** One {@link StandIn} for each guest whose machine has nobody else. */
export class StandIns {
  private readonly byGuest = new Map<string, StandIn>();
  private ending: Promise<unknown> = Promise.resolve();

  private readonly failed: (error: unknown) => void;

  constructor(log: (line: string) => void) {
    this.failed = (error): void => {
      log(`a machine is not answered: ${reasonOf(error)}`);
    };
  }

  /** Begins for those guests of what is kept that have none; with `guest` for that one alone. */
  begin(kept: ReadonlyMap<string, readonly number[]>, guest?: string): void {
    const guests = new Map<string, KeptDescriptors[]>();
    for (const [name, fds] of kept) {
      const [whose, rest] = splitName(name);
      if (this.byGuest.has(whose) || (guest !== undefined && whose !== guest)) continue;
      guests.set(whose, [...(guests.get(whose) ?? []), { name: rest, fds }]);
    }
    for (const [whose, descriptors] of guests) this.beginOne(whose, descriptors);
  }

  /** Whether a machine wants something, since this was asked last, that only a daemon can do. */
  takeWanted(): boolean {
    return [...this.byGuest.values()].filter((standIn) => standIn.takeWanted()).length > 0;
  }

  /** Leaves the machine of `guest` to a daemon, or to nobody; see {@link left}. */
  leave(guest: string): void {
    const standIn = this.byGuest.get(guest);
    this.byGuest.delete(guest);
    if (standIn !== undefined) this.ending = Promise.all([this.ending, standIn.leave().catch(this.failed)]);
  }

  leaveAll(): void {
    for (const guest of [...this.byGuest.keys()]) this.leave(guest);
  }

  /** Resolves when those that were to leave have. */
  async left(): Promise<void> {
    await this.ending;
  }

  private beginOne(guest: string, descriptors: readonly KeptDescriptors[]): void {
    try {
      const standIn = StandIn.begin(descriptors, this.failed);
      if (standIn !== undefined) this.byGuest.set(guest, standIn);
    } catch (error) {
      this.failed(error);
    }
  }
}
