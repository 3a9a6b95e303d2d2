// What the daemon shows of the chip.
import type { CommandCounter } from '../hardware/chip/usage.js';
import type { ChipInfo } from '../hardware/chip/info.js';
import type { ChipCondition } from '../hardware/chip/health.js';
import type { Check } from './chip-checks.js';
import type { HostOperations } from './operations.js';
import type { RollbackView } from './rollback/guard.js';

/** The chip as the control API needs it. */
export interface ChipView {
  readonly tcti: string;
  readonly embedded: boolean;
  readonly info: ChipInfo;
  /** The chip's state as of its last command. */
  condition(): ChipCondition;
  /** The chip's state; it is asked if nothing was heard of it lately, but not waited for long. */
  currentCondition(): Promise<ChipCondition>;
  /** `listener` is called whenever the chip can be used again after it could not. */
  onUsable(listener: () => void): void;
  /** How older copies of the state are told; null where they are not. */
  rollback(): RollbackView | null;
  /** What an operator does with the chip. */
  readonly host: HostOperations;
  /** What `doctor` finds. */
  check(): Check[];
  /** What went to the chip, by chip command. */
  counters(): readonly CommandCounter[];
  /** Jobs that wait or run. */
  pending(): number;
}
