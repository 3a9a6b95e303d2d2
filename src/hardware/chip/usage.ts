// Who used the chip, for what, and for how long.
import type { Cancellation } from '../../tpm/canceled.js';

/** What one command cost in the chip. */
export interface CommandCounter {
  /** Guest command, or chip command in {@link ChipUsage}; without the `TPM2_` prefix. */
  readonly command: string;
  /** How often the guest (or, in {@link ChipUsage}, tpmux) sent it. */
  readonly calls: number;
  /** How many commands the chip got for it. */
  readonly hardwareCommands: number;
  /** Time that the chip took for those, in milliseconds. */
  readonly chipMilliseconds: number;
}

class Counters {
  private readonly byName = new Map<string, { calls: number; hardwareCommands: number; chipMilliseconds: number }>();

  add(command: string, calls: number, hardwareCommands: number, chipMilliseconds: number): void {
    const counter = this.byName.get(command);
    if (counter === undefined) {
      this.byName.set(command, { calls, hardwareCommands, chipMilliseconds });
      return;
    }
    counter.calls += calls;
    counter.hardwareCommands += hardwareCommands;
    counter.chipMilliseconds += chipMilliseconds;
  }

  list(): CommandCounter[] {
    return [...this.byName].map(([command, counter]) => ({ command, ...counter }));
  }
}

/** All that one chip did, by chip command. */
export class ChipUsage {
  private readonly totals = new Counters();

  /** One command went to the chip and took `milliseconds`, whatever it answered. */
  record(chipCommand: string, milliseconds: number): void {
    this.totals.add(chipCommand, 1, 1, milliseconds);
  }

  /** A snapshot. */
  counters(): CommandCounter[] {
    return this.totals.list();
  }
}

/**
 * The chip's bill of one guest, or of tpmux itself. A guest's TPM runs one command at a time: every command that the
 * chip gets between one {@link begin} and the next belongs to the guest command named there.
 */
export class Account {
  /** The guest's name; {@link HOST_ACCOUNT_NAME} for tpmux itself. */
  readonly guest: string;
  /** Of the command that the guest's TPM executes; undefined while it executes none. */
  cancellation: Cancellation | undefined;
  /** How often the chip refused what nobody had foreseen that it may, by chip command. */
  readonly refusals = new Map<string, number>();
  private current: string;
  private readonly byCommand = new Counters();

  /** @param idle what commands count for that the chip gets before the first {@link begin} */
  constructor(guest: string, idle = 'Startup') {
    this.guest = guest;
    this.current = idle;
  }

  /** Aborted when the guest gives up the command that its TPM executes; undefined while it executes none. */
  get signal(): AbortSignal | undefined {
    return this.cancellation?.signal;
  }

  /** The guest's TPM starts to execute `commandName`, a name of the command table (so their number is bounded). */
  begin(commandName: string): void {
    this.current = commandName;
    this.byCommand.add(commandName, 1, 0, 0);
  }

  /** One command went to the chip for this account and took `milliseconds`. */
  record(milliseconds: number): void {
    this.byCommand.add(this.current, 0, 1, milliseconds);
  }

  /** The chip refused a command for this account, and nobody had foreseen that. */
  refused(chipCommand: string): void {
    this.refusals.set(chipCommand, (this.refusals.get(chipCommand) ?? 0) + 1);
  }

  /** A snapshot, by guest command. */
  counters(): CommandCounter[] {
    return this.byCommand.list();
  }
}

/** `guest` of the account that housekeeping is charged to; no guest can have this name. */
export const HOST_ACCOUNT_NAME = '(host)';
