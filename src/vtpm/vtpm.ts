import type { Account } from '../hardware/account.js';
import { StoreError } from '../store/store-error.js';
import { Dispatcher, type DispatchObserver, type VolatileMoment } from './dispatch/dispatcher.js';
import { errorResponse } from './dispatch/response.js';
import { type GuestTpm, StateRefused, type StatePart } from './guest-tpm.js';
import { servedCommands } from './handlers.js';
import { readVolatile, restoreVolatile, takeVolatile, type VolatileState } from './snapshot.js';
import { DRTM_LOCALITY } from './state/drtm.js';
import { PcrLog, type PcrLogEntry } from './state/pcr-log.js';
import { NotDurable } from './state/durable.js';
import { StoredState } from './stored-state.js';
import { Tpm, type TpmParts } from './tpm.js';
import { TPM_RC } from '../tpm/response-code.js';

/** What a vTPM reports to its surroundings. */
export interface VTpmObserver {
  /** Something failed that is not the guest's doing. No secret is in `what`. */
  failed(what: string, error: unknown): void;
}

/** A command that was not answered yet. */
interface Pending {
  /** Answers it `TPM_RC_CANCELED`; undefined once it executes. */
  cancel: (() => void) | undefined;
}

/** One guest's TPM: runs its commands one after the other, over the power cycles of the guest. */
export class VTpm implements GuestTpm {
  private readonly parts: TpmParts;
  private readonly account: Account;
  private readonly observer: VTpmObserver;
  private tpm: Tpm;
  private dispatcher: Dispatcher;
  private queue: Promise<unknown> = Promise.resolve();
  private readonly pending = new Set<Pending>();
  private readonly pcrLogRing = new PcrLog();
  private readonly stored: StoredState;
  /** Volatile state of before a command that is not undone yet; no other runs until it is. */
  private undo: VolatileMoment | undefined;
  /** The last commit was successful. */
  private writable = true;

  private constructor(parts: TpmParts, account: Account, observer: VTpmObserver) {
    this.parts = parts;
    this.account = account;
    this.observer = observer;
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

  get established(): boolean {
    return this.tpm.power.established;
  }

  execute(command: Buffer, locality: number): Promise<Buffer> {
    const pending: Pending = { cancel: undefined };
    const cancelled = new Promise<Buffer>((resolve) => {
      pending.cancel = (): void => {
        this.pending.delete(pending);
        resolve(errorResponse(TPM_RC.CANCELED));
      };
    });
    this.pending.add(pending);
    const executed = this.enqueue(async () => {
      // Cancelled while it waited: it must have no effect.
      if (!this.pending.delete(pending)) return cancelled;
      pending.cancel = undefined;
      if (!this.tpm.power.powered) return errorResponse(TPM_RC.FAILURE);
      return this.run(command, locality);
    });
    return Promise.race([executed, cancelled]);
  }

  powerOn(): Promise<void> {
    return this.enqueue(async () => {
      this.stored.forget();
      await this.reload();
      this.applyPower();
    });
  }

  init(deleteVolatile: boolean): Promise<void> {
    return this.enqueue(async () => {
      const { established } = this.tpm.power;
      const state = await this.stored.apply(deleteVolatile);
      await this.reload();
      this.applyPower();
      this.tpm.power.established = established;
      if (state !== undefined) await this.resume(state);
    });
  }

  powerOff(): Promise<void> {
    return this.enqueue(async () => {
      const { established } = this.tpm.power;
      await this.reload();
      this.tpm.power.established = established;
    });
  }

  cancel(): void {
    for (const { cancel } of [...this.pending]) cancel?.();
    this.parts.keys.cancellation.cancel();
  }

  hashStart(): Promise<void> {
    return this.enqueue(() => this.tpm.drtm.start(this.tpm.pcrs));
  }

  hashData(data: Buffer): Promise<void> {
    const copy = Buffer.from(data);
    return this.enqueue(() => {
      this.tpm.drtm.update(copy);
      return Promise.resolve();
    });
  }

  hashEnd(): Promise<void> {
    return this.enqueue(() => this.tpm.drtm.end(this.tpm));
  }

  getState(part: StatePart): Promise<Buffer> {
    return this.enqueue(async () => {
      if (part === 'savestate') throw new Error('a TPM 2.0 has no such state');
      return part === 'permanent' ? await this.stored.permanentBlob() : this.stored.volatileBlob(takeVolatile(this.tpm));
    });
  }

  setState(part: StatePart, blob: Buffer): Promise<void> {
    return this.enqueue(async () => {
      if (this.tpm.power.powered) throw new StateRefused('the TPM has power');
      await this.stored.accept(part, blob);
    });
  }

  storeVolatile(): Promise<void> {
    return this.enqueue(() => this.stored.store(takeVolatile(this.tpm)));
  }

  /** What happened to the PCRs since the vTPM was opened, as far as it is remembered; oldest first. For operators. */
  get pcrLog(): PcrLogEntry[] {
    return this.pcrLogRing.entries;
  }

  resetEstablished(locality: number): boolean {
    if (locality !== 3 && locality !== 4) return false;
    this.tpm.power.established = false;
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
    this.undo = undefined;
    this.tpm = fresh;
    this.dispatcher = this.makeDispatcher();
  }

  private applyPower(): void {
    this.tpm.power.powered = true;
    this.tpm.clock.powerOn();
  }

  private async resume(state: VolatileState): Promise<void> {
    await restoreVolatile(this.tpm, state);
    this.pcrLogRing.add({ kind: 'restore', command: 'INIT', locality: DRTM_LOCALITY, pcr: null, digests: [] });
  }

  /** Runs one command; `TPM_RC_CANCELED` if it was given up before it had an effect. */
  private async run(command: Buffer, locality: number): Promise<Buffer> {
    const { cancellation } = this.parts.keys;
    this.tpm.drtm.abort();
    cancellation.begin();
    const response = await this.executeOrUndo(command, locality);
    const failed = response.readUInt32BE(6) !== 0;
    return cancellation.end() && failed ? errorResponse(TPM_RC.CANCELED) : response;
  }

  /**
   * Runs one command. If what it changed cannot be made durable all of it is undone, in volatile state as well, and the answer is
   * `TPM_RC_RETRY`: the guest may send the same command again, and it succeeds when the disk does.
   */
  private async executeOrUndo(command: Buffer, locality: number): Promise<Buffer> {
    try {
      if (this.undo !== undefined) await this.goBack(this.undo);
      return await this.dispatcher.execute(command, locality);
    } catch (error) {
      if (!(error instanceof NotDurable || error instanceof StoreError)) {
        this.observer.failed('a command failed, the TPM stops', error);
        this.tpm.power.failed = true;
        return errorResponse(TPM_RC.FAILURE);
      }
      if (this.writable) this.observer.failed('the state could not be made durable: commands that change it are undone', error);
      this.writable = false;
      if (this.undo === undefined) await this.goBack((this.undo = this.dispatcher.before())).catch(() => undefined);
      return errorResponse(TPM_RC.RETRY);
    }
  }

  /** Reads anew what is durable and puts back the volatile state of before a command. */
  private async goBack(before: VolatileMoment): Promise<void> {
    const { powered } = this.tpm.power;
    const fresh = await this.loaded();
    fresh.power.powered = powered;
    await restoreVolatile(fresh, readVolatile(Buffer.from(before.state)));
    fresh.clock.catchUp(before.at);
    this.replace(fresh);
    before.state.fill(0);
  }

  private makeDispatcher(): Dispatcher {
    const observer: DispatchObserver = {
      begin: (name) => {
        this.account.begin(name ?? 'unknown');
      },
      failed: (what, error) => {
        this.observer.failed(what, error);
      },
      committed: () => {
        this.writable = true;
      },
    };
    return new Dispatcher(this.tpm, servedCommands, observer);
  }

  private enqueue<T>(job: () => Promise<T>): Promise<T> {
    const result = this.queue.then(job);
    this.queue = result.catch(() => undefined);
    return result;
  }
}
