// One operation on the state of a vTPM: all that it changed outlives this process, or none of it has happened.
import type { DurableState } from '../state/durable.js';
import { NotDurable } from '../state/durable.js';
import type { Tpm } from '../tpm.js';
import { voidOldShutdown } from './shutdown-state.js';
import type { VolatileKeeper } from './volatile-keeper.js';

/** What a command brings along. */
export interface TransactionOptions {
  /** By which its response will be asked for if this process is killed; 0 is none. */
  readonly token?: number;
  /** Is told before anything can outlive this process. */
  readonly onEffect?: (() => void) | undefined;
}

/** Where a {@link Transaction} wrote last. */
export type Written = 'nothing' | 'journal' | 'store';

/** An operation from its begin until {@link commit} or {@link undo}. No other may run meanwhile. */
export class Transaction {
  private written: Written = 'nothing';

  constructor(
    private readonly tpm: Tpm,
    private readonly keeper: VolatileKeeper,
    private readonly options: TransactionOptions = {},
  ) {}

  /** Where something was written: only then it is known that it can be. */
  get wrote(): Written {
    return this.written;
  }

  /**
   * Keeps all that changed, and the response of a command with it. Rejects with {@link NotDurable}, or with a `JournalUnwritable`: the
   * operation is to be undone then.
   */
  async commit(response?: Buffer): Promise<void> {
    const { tpm, keeper } = this;
    const { durable, clock } = tpm;
    voidOldShutdown(tpm);
    const { token = 0, onEffect } = this.options;
    const answer = response && { token, response };
    if (!durable.dirty) {
      if (clock.due) await this.storeClock(durable);
      if (keeper.write(tpm, answer, onEffect)) this.written = 'journal';
      return;
    }
    durable.requireAvailable();
    if (clock.due) clock.changed();
    if (response !== undefined) tpm.generation.advance();
    onEffect?.();
    keeper.prepareCommit(tpm, answer);
    const { erases } = durable;
    await durable.commit();
    this.written = 'store';
    keeper.committed(tpm, erases);
  }

  /** A TPM as it was before the operation; `load` makes one with all that is durable. If this rejects it can be tried again. */
  async undo(load: () => Promise<Tpm>): Promise<Tpm> {
    const before = await load();
    before.power.powered = this.tpm.power.powered;
    await this.keeper.goBack(before);
    return before;
  }

  /** No command waits for Clock to be stored, so none fails for it. */
  private async storeClock(durable: DurableState): Promise<void> {
    const { clock } = this.tpm;
    clock.changed();
    try {
      await durable.commit();
    } catch (error) {
      if (!(error instanceof NotDurable)) throw error;
      clock.notStored();
    }
  }
}
