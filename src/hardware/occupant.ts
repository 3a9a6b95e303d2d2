// What tpmux has in the chip: keys in its slots, and the host root by which it is known.
import type { ChipOwner, SlotKeeper } from './chip/chip.js';
import type { ChipCondition } from './chip/health.js';
import type { CommandSender } from './chip/sender.js';
import { verifyHostRoot, type HostRoot } from './host/keys.js';
import { SlotCache } from './turns/slots.js';

/** Answers for the chip's slots, and knows the chip by its host root. */
export class Occupant implements ChipOwner {
  readonly slots = new SlotCache();
  private hostRoot: HostRoot | undefined;
  private listener: (condition: ChipCondition) => void = () => undefined;

  /** The chip is the one with this host root from now on. */
  settle(hostRoot: HostRoot): void {
    this.hostRoot = hostRoot;
  }

  /** Tells `listener`, and nobody else, when the state of the chip is another one. */
  onCondition(listener: (condition: ChipCondition) => void): void {
    this.listener = listener;
  }

  evict(chip: SlotKeeper): Promise<boolean> {
    return this.slots.makeOneFree(chip);
  }

  lost(reset: boolean): void {
    this.slots.lost(reset);
  }

  async verify(sender: CommandSender): Promise<void> {
    if (this.hostRoot !== undefined) await verifyHostRoot(sender, this.hostRoot);
  }

  changed(condition: ChipCondition): void {
    this.listener(condition);
  }
}
