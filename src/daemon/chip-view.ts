// What the daemon shows of the chip.
import type { CommandCounter } from '../hardware/account.js';
import type { ChipInfo } from '../hardware/chip-info.js';
import type { Check } from './chip-checks.js';

/** The chip as the control API needs it. */
export interface ChipView {
  readonly tcti: string;
  readonly embedded: boolean;
  readonly info: ChipInfo;
  /** What `doctor` finds. */
  check(): Check[];
  /** What went to the chip, by chip command. */
  counters(): readonly CommandCounter[];
  /** Jobs that wait or run. */
  pending(): number;
}
