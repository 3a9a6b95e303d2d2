import type { Account } from '../hardware/chip/usage.js';
import { MemoryJournal } from '../store/memory-journal.js';
import { errorResponse } from '../tpm/frame.js';
import { TPM_RC } from '../tpm/response-code.js';
import { CommandQueue } from './command-queue.js';
import { type GuestTpm, type PlatformSignal, StateRefused, type StatePart } from './guest-tpm.js';
import { LiveTpm, type VTpmObserver } from './live-tpm.js';
import { takeVolatile } from './persistence/snapshot.js';
import { countsOf, StoredState } from './persistence/stored-state.js';
import { Transaction } from './persistence/transaction.js';
import { applySignal } from './platform-signals.js';
import { VolatileKeeper } from './persistence/volatile-keeper.js';
import { DRTM_LOCALITY } from './state/drtm.js';
import { PcrLog, type PcrLogEntry } from './state/pcr/pcr-log.js';
import type { Tpm, TpmParts } from './tpm.js';

/** One guest's TPM: runs its commands one after the other, over the power cycles of the guest. */
export class VTpm implements GuestTpm {
  private readonly queue = new CommandQueue();
  private readonly pcrLogRing = new PcrLog();
  private readonly stored: StoredState;
  /** Keeps the volatile state, also over the death of this process if the guest has a journal that outlives it. */
  private readonly keeper: VolatileKeeper;
  private readonly live: LiveTpm;

  private constructor(
    parts: TpmParts,
    private readonly account: Account,
    observer: VTpmObserver,
  ) {
    this.keeper = new VolatileKeeper(parts.journal ?? new MemoryJournal());
    this.live = new LiveTpm(parts, this.pcrLogRing, this.keeper, account, observer);
    this.stored = new StoredState(parts);
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

  private get tpm(): Tpm {
    return this.live.tpm;
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
        return await this.live.execute(command, locality, { token, onEffect });
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
      await this.live.reload();
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
      const fresh = await this.keeper.resume(() => this.live.loaded());
      if (fresh === undefined) return false;
      this.live.replace(fresh);
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
      tpm.durable.available = true;
      try {
        if (tpm.power.powered && !this.live.isUnsettled) {
          tpm.clock.changed();
          tpm.nv.storeOrderly();
          await new Transaction(tpm, this.keeper).commit();
        }
      } finally {
        this.keeper.release();
        this.live.replace(await this.live.loaded());
      }
    });
  }

  init(deleteVolatile: boolean): Promise<void> {
    return this.queue.run(async () => {
      await this.live.shutDown();
      const { established } = this.tpm.power;
      const { replacesPermanent } = this.stored;
      const before = { counts: countsOf(this.tpm), generation: this.tpm.generation.value };
      const state = await this.stored.apply(deleteVolatile, this.tpm);
      await this.live.reload();
      this.applyPower();
      this.tpm.power.established = established;
      if (replacesPermanent) this.tpm.power.spendCommits();
      if (state !== undefined) {
        await state.putInto(this.tpm);
        this.tpm.nv.keepForward(before.counts);
        if (state.generation < before.generation) this.tpm.dictionaryAttack.restartTimers();
        this.noteRestore('INIT');
      }
      if (this.tpm.durable.dirty) await this.tpm.durable.commit();
      this.keep();
    });
  }

  powerOff(orderly = false): Promise<void> {
    return this.queue.run(async () => {
      if (orderly) await this.live.shutDown();
      const { established } = this.tpm.power;
      this.keeper.end();
      await this.live.reload();
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

  signal(signal: PlatformSignal): Promise<void> {
    return this.change((tpm) => {
      if (tpm.power.powered) applySignal(tpm, signal);
    });
  }

  getState(part: StatePart): Promise<Buffer> {
    return this.queue.run(async () => {
      if (part === 'savestate') throw new Error('a TPM 2.0 has no such state');
      await this.live.settle();
      return part === 'permanent' ? await this.stored.permanentBlob() : this.stored.volatileBlob(takeVolatile(this.tpm));
    });
  }

  setState(part: StatePart, blob: Buffer): Promise<void> {
    return this.queue.run(async () => {
      if (this.tpm.power.powered) throw new StateRefused('the TPM has power');
      await this.stored.accept(part, blob, this.tpm);
    });
  }

  storeVolatile(): Promise<void> {
    return this.queue.run(async () => {
      await this.live.settle();
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

  private change(make: (tpm: Tpm) => void | Promise<void>): Promise<void> {
    return this.queue.run(() => this.live.change(make));
  }
}
