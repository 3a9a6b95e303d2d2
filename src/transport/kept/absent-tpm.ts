// A guest's TPM while no daemon is there: it tells the machine to try again, and has no effect.
import { setTimeout as delay } from 'node:timers/promises';
import { errorResponse } from '../../tpm/frame.js';
import { TPM_RC } from '../../tpm/response-code.js';
import type { GuestTpm } from '../../vtpm/guest-tpm.js';
import type { GuestMemoryContents } from './guest-memory.js';

/** How long a command waits for a daemon. Linux gives some commands up after 750 ms. */
const PATIENCE_MS = 500;

/** What {@link AbsentTpm.execute} answers: `TPM_RC_RETRY`, or `TPM_RC_CANCELED` to a command that was canceled while it waited. */
export class AbsentTpm implements GuestTpm {
  bufferSize: number;
  readonly powered: boolean;
  readonly established: boolean;
  private code: number = TPM_RC.RETRY;
  /** Of the command that waits. */
  private canceling: AbortController | undefined;

  constructor({ bufferSize, off, established }: GuestMemoryContents) {
    this.bufferSize = bufferSize;
    this.powered = !off;
    this.established = established;
  }

  /** Resolves when the command that has come is to be answered, or `left`. One at a time. */
  async wait(left: Promise<void>): Promise<void> {
    const canceling = new AbortController();
    this.canceling = canceling;
    this.code = TPM_RC.RETRY;
    const waited = delay(PATIENCE_MS, undefined, { signal: canceling.signal }).catch(() => {
      this.code = TPM_RC.CANCELED;
    });
    await Promise.race([waited, left]);
    this.canceling = undefined;
  }

  cancel(): void {
    this.canceling?.abort();
  }

  execute(): Promise<Buffer> {
    return Promise.resolve(errorResponse(this.code));
  }

  /** Never called: without the reply cache it is not known. */
  answered(): undefined {
    return undefined;
  }

  powerOn(): Promise<never> {
    return noDaemon();
  }

  powerOff(): Promise<never> {
    return noDaemon();
  }

  init(): Promise<never> {
    return noDaemon();
  }

  hashStart(): Promise<never> {
    return noDaemon();
  }

  hashData(): Promise<never> {
    return noDaemon();
  }

  hashEnd(): Promise<never> {
    return noDaemon();
  }

  signal(): Promise<never> {
    return noDaemon();
  }

  getState(): Promise<never> {
    return noDaemon();
  }

  setState(): Promise<never> {
    return noDaemon();
  }

  storeVolatile(): Promise<never> {
    return noDaemon();
  }

  resetEstablished(): Promise<never> {
    return noDaemon();
  }
}

function noDaemon(): Promise<never> {
  return Promise.reject(new Error('there is no daemon'));
}
