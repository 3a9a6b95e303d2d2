import type { Account } from '../hardware/account.js';
import { Dispatcher, type DispatchObserver } from './dispatch/dispatcher.js';
import { errorResponse } from './dispatch/response.js';
import type { GuestTpm } from './guest-tpm.js';
import { servedCommands } from './handlers.js';
import { Tpm, type TpmParts } from './tpm.js';
import { TPM_RC } from '../tpm/response-code.js';

/** What a vTPM reports to its surroundings. */
export interface VTpmObserver {
  /** Something failed that is not the guest's doing. No secret is in `what`. */
  failed(what: string, error: unknown): void;
}

/** One guest's TPM: runs its commands one after the other, over the power cycles of the guest. */
export class VTpm implements GuestTpm {
  private readonly parts: TpmParts;
  private readonly account: Account;
  private readonly observer: VTpmObserver;
  private tpm: Tpm;
  private dispatcher: Dispatcher;
  private queue: Promise<unknown> = Promise.resolve();

  private constructor(parts: TpmParts, account: Account, observer: VTpmObserver) {
    this.parts = parts;
    this.account = account;
    this.observer = observer;
    this.tpm = new Tpm(parts);
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
    return this.enqueue(async () => {
      if (!this.tpm.power.powered) return errorResponse(TPM_RC.INITIALIZE);
      return this.dispatcher.execute(command, locality);
    });
  }

  powerOn(): Promise<void> {
    return this.enqueue(async () => {
      await this.reload();
      this.tpm.power.powered = true;
      this.tpm.clock.powerOn();
    });
  }

  powerOff(): Promise<void> {
    return this.enqueue(async () => {
      await this.reload();
    });
  }

  cancel(): void {
    // A command is either short or in the chip, where it cannot be told apart from another guest's: it is left to finish.
  }

  resetEstablished(locality: number): boolean {
    if (locality !== 3 && locality !== 4) return false;
    this.tpm.power.established = false;
    return true;
  }

  /** Read access to the PCRs as the guest sees them, for operators. Undefined if the bank does not exist. */
  readPcr(bank: number, index: number): Buffer | undefined {
    const { matrix } = this.tpm.pcrs;
    return matrix.banks.includes(bank) && index < matrix.size ? Buffer.from(matrix.read(bank, index)) : undefined;
  }

  /** Hash algorithms of the PCR banks. */
  get pcrBanks(): readonly number[] {
    return this.tpm.pcrs.matrix.banks;
  }

  /** Drops all volatile state: what is durable is read anew, so nothing that was not committed is left. */
  private async reload(): Promise<void> {
    const fresh = new Tpm(this.parts);
    await fresh.load();
    this.tpm.objects.flushWhere(() => true);
    fresh.clock.epoch = this.tpm.clock.epoch;
    this.tpm = fresh;
    this.dispatcher = this.makeDispatcher();
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

  private enqueue<T>(job: () => Promise<T>): Promise<T> {
    const result = this.queue.then(job);
    this.queue = result.catch(() => undefined);
    return result;
  }
}
