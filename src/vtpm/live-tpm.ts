// The state of a vTPM as it is at the moment, and what it takes that an operation on it happens as a whole or not at all.
import type { Account } from '../hardware/chip/usage.js';
import { JournalUnwritable } from '../store/state-journal.js';
import { StoreError } from '../store/store-error.js';
import { errorResponse, hasAuthorizations, HEADER_SIZE } from '../tpm/frame.js';
import { TPM_RC } from '../tpm/response-code.js';
import { Dispatcher, type DispatchObserver } from './dispatch/dispatcher.js';
import { servedCommands } from './handlers.js';
import { shutDown } from './persistence/shutdown-state.js';
import { Transaction, type TransactionOptions } from './persistence/transaction.js';
import type { VolatileKeeper } from './persistence/volatile-keeper.js';
import { keepSignals } from './platform-signals.js';
import { NotDurable, NvUnavailable } from './state/durable.js';
import type { PcrLog } from './state/pcr/pcr-log.js';
import { Tpm, type TpmParts } from './tpm.js';

/** What a vTPM reports to its surroundings. */
export interface VTpmObserver {
  /** Something failed that is not the guest's doing. No secret is in `what`. */
  failed(what: string, error: unknown): void;
}

/** A {@link Tpm} that is replaced by another one when an operation is undone, and when power comes or goes. Calls must not overlap. */
export class LiveTpm {
  private current: Tpm;
  private dispatcher: Dispatcher;
  /** An operation that failed is not undone yet; no other runs until it is. */
  private failed: Transaction | undefined;
  /** What could not be written last. */
  private unwritable: 'store' | 'journal' | undefined;

  constructor(
    private readonly parts: TpmParts,
    private readonly pcrLog: PcrLog,
    private readonly keeper: VolatileKeeper,
    private readonly account: Account,
    private readonly observer: VTpmObserver,
  ) {
    this.current = new Tpm(parts, pcrLog);
    this.dispatcher = this.makeDispatcher();
  }

  /** The state at present; another object after every operation that failed. */
  get tpm(): Tpm {
    return this.current;
  }

  /** Whether an operation failed and is not undone. */
  get isUnsettled(): boolean {
    return this.failed !== undefined;
  }

  /**
   * Runs one command. If what it changed cannot be made durable all of it is undone, in volatile state as well, and the answer is
   * `TPM_RC_RETRY`: the guest may send the same command again, and it succeeds when the disk does.
   */
  async execute(command: Buffer, locality: number, options: TransactionOptions): Promise<Buffer> {
    let transaction: Transaction | undefined;
    try {
      await this.settle();
      if (command.length >= HEADER_SIZE && hasAuthorizations(command)) await this.countFailures();
      this.tpm.drtm.abort();
      this.tpm.failedAuthorizations.begin();
      transaction = new Transaction(this.tpm, this.keeper, options);
      const response = await this.dispatcher.execute(command, locality, transaction);
      this.noteWritten(transaction);
      return response;
    } catch (error) {
      if (error instanceof NvUnavailable && transaction !== undefined) {
        await this.undo(transaction);
        return errorResponse(TPM_RC.NV_UNAVAILABLE);
      }
      const what = unwritable(error);
      if (what === undefined) {
        this.observer.failed('a command failed, the TPM stops', error);
        this.stop();
        return errorResponse(TPM_RC.FAILURE);
      }
      if (this.unwritable !== what) this.observer.failed(`the ${what} cannot be written: commands that change the state are undone`, error);
      this.unwritable = what;
      if (transaction !== undefined) await this.undo(transaction);
      return errorResponse(TPM_RC.RETRY);
    }
  }

  /** Something other than a command changes the state. Rejects, and has no effect, if that cannot be kept. */
  async change(make: (tpm: Tpm) => void | Promise<void>): Promise<void> {
    await this.settle();
    await make(this.tpm);
    if (!this.tpm.power.powered) return;
    const transaction = new Transaction(this.tpm, this.keeper);
    try {
      await transaction.commit();
    } catch (error) {
      this.failed = transaction;
      await this.settle();
      throw error;
    }
  }

  /** An orderly end of a power cycle that the guest has not ended in order. If it cannot be written down power fails, as it can. */
  async shutDown(): Promise<void> {
    try {
      await this.settle();
      const { tpm } = this;
      const { powered, started, failed, orderly } = tpm.power;
      // A failure that could not be counted must be supposed at the next startup.
      if (!powered || !started || failed || orderly || tpm.failedAuthorizations.pending) return;
      shutDown(tpm, null);
      await new Transaction(tpm, this.keeper).commit();
    } catch (error) {
      if (unwritable(error) === undefined) throw error;
    }
  }

  /** Drops all volatile state: what is durable is read anew, so nothing that was not committed is left. */
  async reload(): Promise<void> {
    const fresh = await this.loaded();
    fresh.clock.epoch = this.tpm.clock.epoch;
    this.replace(fresh);
  }

  /** A TPM with all that is durable, and nothing else. */
  async loaded(): Promise<Tpm> {
    const fresh = new Tpm(this.parts, this.pcrLog);
    await fresh.load();
    return fresh;
  }

  /** Goes on with another TPM; objects of the one before are gone. */
  replace(fresh: Tpm): void {
    this.tpm.objects.flushWhere(() => true);
    this.failed = undefined;
    fresh.failedAuthorizations.takeOver(this.tpm.failedAuthorizations);
    fresh.bufferSize = this.tpm.bufferSize;
    this.current = fresh;
    this.dispatcher = this.makeDispatcher();
  }

  /**
   * Counts the failed authorizations of commands that were undone, and finds out whether anything can be written again. Where not, nothing that
   * counts failures is authorized.
   */
  private async countFailures(): Promise<void> {
    const { failedAuthorizations, clock, generation } = this.tpm;
    if (!failedAuthorizations.pending) return;
    const transaction = new Transaction(this.tpm, this.keeper);
    failedAuthorizations.settle(this.tpm);
    failedAuthorizations.blocked = false;
    clock.changed();
    generation.advance();
    try {
      await transaction.commit();
      this.noteWritten(transaction);
    } catch (error) {
      if (unwritable(error) === undefined) throw error;
      await this.undo(transaction);
    }
  }

  private noteWritten({ wrote }: Transaction): void {
    if (wrote === 'store' || wrote === this.unwritable) this.unwritable = undefined;
  }

  /** Undoes what could not be written, but not that authorizations failed. If that cannot be done now the next operation tries it again. */
  private async undo(transaction: Transaction): Promise<void> {
    const { failedAuthorizations } = this.tpm;
    failedAuthorizations.oweNoted();
    failedAuthorizations.blocked = true;
    this.failed = transaction;
    try {
      await this.settle();
      this.keeper.write(this.tpm);
    } catch {
      // What is owed is in memory at least.
    }
  }

  /** Nothing is executed any more until power comes anew. */
  private stop(): void {
    this.tpm.power.failed = true;
    try {
      this.keeper.write(this.tpm);
    } catch {
      // A process that goes on from what was written before is not worse off.
    }
  }

  /** If an operation failed and was not undone yet, it is now. Rejects if it still cannot be. */
  async settle(): Promise<void> {
    if (this.failed === undefined) return;
    const before = await this.failed.undo(() => this.loaded());
    keepSignals(this.tpm, before);
    this.replace(before);
  }

  private makeDispatcher(): Dispatcher {
    const observer: DispatchObserver = {
      begin: (name) => {
        this.account.begin(name ?? 'unknown');
      },
      failed: (what, error) => {
        this.observer.failed(what, error);
      },
    };
    return new Dispatcher(this.tpm, servedCommands, observer);
  }
}

/** Where something could not be written, so that a command failed: it may succeed later, and nothing of it has happened. */
function unwritable(error: unknown): 'store' | 'journal' | undefined {
  if (error instanceof JournalUnwritable) return 'journal';
  return error instanceof NotDurable || error instanceof StoreError ? 'store' : undefined;
}
