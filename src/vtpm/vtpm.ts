import type { Account } from '../hardware/chip/usage.js';
import { MemoryJournal } from '../store/memory-journal.js';
import { JournalUnwritable } from '../store/state-journal.js';
import { StoreError } from '../store/store-error.js';
import { CommandQueue } from './command-queue.js';
import { Dispatcher, type DispatchObserver } from './dispatch/dispatcher.js';
import { type GuestTpm, StateRefused, type StatePart } from './guest-tpm.js';
import { servedCommands } from './handlers.js';
import { takeVolatile } from './persistence/snapshot.js';
import { StoredState } from './persistence/stored-state.js';
import { Transaction, type TransactionOptions } from './persistence/transaction.js';
import { VolatileKeeper } from './persistence/volatile-keeper.js';
import { DRTM_LOCALITY } from './state/drtm.js';
import { NotDurable } from './state/durable.js';
import { PcrLog, type PcrLogEntry } from './state/pcr-log.js';
import { Tpm, type TpmParts } from './tpm.js';
import { errorResponse, hasAuthorizations, HEADER_SIZE } from '../tpm/frame.js';
import { TPM_RC } from '../tpm/response-code.js';

/** What a vTPM reports to its surroundings. */
export interface VTpmObserver {
  /** Something failed that is not the guest's doing. No secret is in `what`. */
  failed(what: string, error: unknown): void;
}

/** One guest's TPM: runs its commands one after the other, over the power cycles of the guest. */
export class VTpm implements GuestTpm {
  private tpm: Tpm;
  private dispatcher: Dispatcher;
  private readonly queue = new CommandQueue();
  private readonly pcrLogRing = new PcrLog();
  private readonly stored: StoredState;
  /** Keeps the volatile state, also over the death of this process if the guest has a journal that outlives it. */
  private readonly keeper: VolatileKeeper;
  /** An operation that failed is not undone yet; no other runs until it is. */
  private failed: Transaction | undefined;
  /** What could not be written last. */
  private unwritable: 'store' | 'journal' | undefined;

  private constructor(
    private readonly parts: TpmParts,
    private readonly account: Account,
    private readonly observer: VTpmObserver,
  ) {
    this.keeper = new VolatileKeeper(parts.journal ?? new MemoryJournal());
    this.tpm = new Tpm(parts, this.pcrLogRing);
    this.stored = new StoredState(parts);
    this.dispatcher = this.makeDispatcher();
  }

  /**
   * Opens a vTPM over its durable state; a guest without any gets a new TPM. It is powered off.
   * Rejects if the state cannot be read.
   */
  static async open(parts: TpmParts, account: Account, observer: VTpmObserver): Promise<VTpm> {
    const vtpm = new VTpm(parts, account, observer);
    await vtpm.tpm.load();
    return vtpm;
  }

  get powered(): boolean {
    return this.tpm.power.powered;
  }

  get bufferSize(): number {
    return this.tpm.bufferSize;
  }

  set bufferSize(bytes: number) {
    this.tpm.bufferSize = bytes;
  }

  get established(): boolean {
    return this.tpm.power.established;
  }

  execute(command: Buffer, locality: number, token = 0, onEffect?: () => void): Promise<Buffer> {
    return this.queue.command(async (cancellation) => {
      if (!this.tpm.power.powered) return errorResponse(TPM_RC.FAILURE);
      this.account.cancellation = cancellation;
      try {
        return await this.executeOrUndo(command, locality, { token, onEffect });
      } finally {
        this.account.cancellation = undefined;
      }
    });
  }

  answered(token: number): Buffer | undefined {
    return this.keeper.answered(token);
  }

  powerOn(): Promise<void> {
    return this.queue.run(async () => {
      this.stored.forget();
      await this.reload();
      this.applyPower();
      this.keep();
    });
  }

  /**
   * Power comes back to where it was when another process of this host ended, by {@link suspend} or not; false, and off, if there is nothing
   * to go on with. Rejects with a `JournalRefused` if what there is cannot be trusted, and with a `JournalUnwritable`; it stays then.
   */
  resume(): Promise<boolean> {
    return this.queue.run(async () => {
      const fresh = await this.keeper.resume(() => this.loaded());
      if (fresh === undefined) return false;
      this.replace(fresh);
      this.keeper.begin(fresh);
      fresh.power.powered = true;
      this.noteRestore('restart of tpmux');
      return true;
    });
  }

  /**
   * This process ends, the guest does not: what {@link resume} goes on with stays. What an unorderly shutdown would lose too much of is
   * made durable, in case the host ends as well. The TPM is off then. Rejects if that could not be made durable.
   */
  suspend(): Promise<void> {
    return this.queue.run(async () => {
      const { tpm } = this;
      try {
        if (tpm.power.powered && this.failed === undefined) {
          tpm.clock.changed();
          tpm.nv.storeOrderly();
          await new Transaction(tpm, this.keeper).commit();
        }
      } finally {
        this.keeper.release();
        this.replace(await this.loaded());
      }
    });
  }

  init(deleteVolatile: boolean): Promise<void> {
    return this.queue.run(async () => {
      const { established } = this.tpm.power;
      const { replacesPermanent } = this.stored;
      const state = await this.stored.apply(deleteVolatile);
      await this.reload();
      this.applyPower();
      this.tpm.power.established = established;
      if (replacesPermanent) await this.spendCommits();
      if (state !== undefined) {
        await state.putInto(this.tpm);
        this.noteRestore('INIT');
      }
      this.keep();
    });
  }

  powerOff(): Promise<void> {
    return this.queue.run(async () => {
      const { established } = this.tpm.power;
      this.keeper.end();
      await this.reload();
      this.tpm.power.established = established;
    });
  }

  cancel(): void {
    this.queue.cancel();
  }

  hashStart(): Promise<void> {
    return this.change((tpm) => tpm.drtm.start(tpm.pcrs));
  }

  hashData(data: Buffer): Promise<void> {
    const copy = Buffer.from(data);
    return this.change((tpm) => {
      tpm.drtm.update(copy);
    });
  }

  hashEnd(): Promise<void> {
    return this.change((tpm) => tpm.drtm.end(tpm));
  }

  getState(part: StatePart): Promise<Buffer> {
    return this.queue.run(async () => {
      if (part === 'savestate') throw new Error('a TPM 2.0 has no such state');
      await this.settle();
      return part === 'permanent' ? await this.stored.permanentBlob() : this.stored.volatileBlob(takeVolatile(this.tpm));
    });
  }

  setState(part: StatePart, blob: Buffer): Promise<void> {
    return this.queue.run(async () => {
      if (this.tpm.power.powered) throw new StateRefused('the TPM has power');
      await this.stored.accept(part, blob);
    });
  }

  storeVolatile(): Promise<void> {
    return this.queue.run(async () => {
      await this.settle();
      await this.stored.store(takeVolatile(this.tpm));
    });
  }

  /** What happened to the PCRs since the vTPM was opened, as far as it is remembered; oldest first. For operators. */
  get pcrLog(): PcrLogEntry[] {
    return this.pcrLogRing.entries;
  }

  async resetEstablished(locality: number): Promise<boolean> {
    if (locality !== 3 && locality !== 4) return false;
    await this.change(({ power }) => {
      power.established = false;
    });
    return true;
  }

  /** Read access to the PCRs as the guest sees them, for operators. Undefined if it does not exist. */
  readPcr(bank: number, index: number): Buffer | undefined {
    const { matrix, allocation } = this.tpm.pcrs;
    return allocation.has(bank, index) ? Buffer.from(matrix.read(bank, index)) : undefined;
  }

  /** Hash algorithms of the PCR banks. */
  get pcrBanks(): readonly number[] {
    return this.tpm.pcrs.allocation.banks;
  }

  /** Drops all volatile state: what is durable is read anew, so nothing that was not committed is left. */
  private async reload(): Promise<void> {
    const fresh = await this.loaded();
    fresh.clock.epoch = this.tpm.clock.epoch;
    this.replace(fresh);
  }

  /** A TPM with all that is durable, and nothing else. */
  private async loaded(): Promise<Tpm> {
    const fresh = new Tpm(this.parts, this.pcrLogRing);
    await fresh.load();
    return fresh;
  }

  private replace(fresh: Tpm): void {
    this.tpm.objects.flushWhere(() => true);
    this.failed = undefined;
    fresh.failedAuthorizations.takeOver(this.tpm.failedAuthorizations);
    fresh.bufferSize = this.tpm.bufferSize;
    this.tpm = fresh;
    this.dispatcher = this.makeDispatcher();
  }

  private applyPower(): void {
    this.tpm.power.powered = true;
    this.tpm.clock.powerOn();
  }

  private noteRestore(command: string): void {
    this.pcrLogRing.add({ kind: 'restore', command, locality: DRTM_LOCALITY, pcr: null, digests: [] });
  }

  /** Begins a new journal with the state as it is; if that cannot be written the TPM is off, and there is no earlier state either. */
  private keep(): void {
    try {
      this.keeper.begin(this.tpm);
    } catch (error) {
      this.tpm.power.powered = false;
      this.keeper.end();
      throw error;
    }
  }

  private async spendCommits(): Promise<void> {
    const { power, durable } = this.tpm;
    power.spendCommits();
    if (durable.dirty) await durable.commit();
  }

  /** Something other than a command changes the state. Rejects, and has no effect, if that cannot be kept. */
  private change(make: (tpm: Tpm) => void | Promise<void>): Promise<void> {
    return this.queue.run(async () => {
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
    });
  }

  /**
   * Runs one command. If what it changed cannot be made durable all of it is undone, in volatile state as well, and the answer is
   * `TPM_RC_RETRY`: the guest may send the same command again, and it succeeds when the disk does.
   */
  private async executeOrUndo(command: Buffer, locality: number, options: TransactionOptions): Promise<Buffer> {
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

  /**
   * Counts the failed authorizations of commands that were undone, and finds out whether anything can be written again. Where not, nothing that
   * counts failures is authorized.
   */
  private async countFailures(): Promise<void> {
    const { failedAuthorizations, clock } = this.tpm;
    if (!failedAuthorizations.pending) return;
    const transaction = new Transaction(this.tpm, this.keeper);
    failedAuthorizations.settle(this.tpm);
    failedAuthorizations.blocked = false;
    clock.changed();
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
  private async settle(): Promise<void> {
    if (this.failed !== undefined) this.replace(await this.failed.undo(() => this.loaded()));
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
