// The end of the way to a guest's TPM, where only that way is tested: it executes nothing, gives a command back as its response,
// and logs what it was asked to do, so that a test sees every byte and every call that came through. What a TPM answers is
// tested with TPMs.
import { type GuestTpm, type PlatformSignal, StateRefused, type StatePart } from '../../src/vtpm/guest-tpm.js';

/** A frame of tag, size, code 0 and `body`. */
export function commandOf(body: Buffer): Buffer {
  const frame = Buffer.alloc(10 + body.length);
  frame.writeUInt16BE(0x8001);
  frame.writeUInt32BE(frame.length, 2);
  body.copy(frame, 10);
  return frame;
}

export class EchoTpm implements GuestTpm {
  powered = false;
  bufferSize = 4096;
  established = false;
  /** What happened, in order. */
  readonly log: string[] = [];
  /** What commands were answered that another process executed, by their tokens. */
  readonly answers = new Map<number, Buffer>();
  /** How many commands have been given to it. */
  begun = 0;
  private open: Promise<void> = Promise.resolve();
  private queue: Promise<unknown> = Promise.resolve();

  /** Commands take, from now on, until what this returns is called. */
  hold(): () => void {
    let release!: () => void;
    this.open = new Promise((resolve) => {
      release = resolve;
    });
    return release;
  }

  execute(command: Buffer, locality: number): Promise<Buffer> {
    const copy = Buffer.from(command);
    this.begun += 1;
    const result = this.queue.then(async () => {
      await this.open;
      this.log.push(`${copy.subarray(10, 30).toString('latin1')}@${locality.toString()}`);
      return copy;
    });
    this.queue = result;
    return result;
  }

  answered(token: number): Buffer | undefined {
    return this.answers.get(token);
  }

  powerOn(): Promise<void> {
    this.powered = true;
    this.log.push('on');
    return Promise.resolve();
  }

  powerOff(): Promise<void> {
    this.powered = false;
    this.log.push('off');
    return Promise.resolve();
  }

  init(deleteVolatile: boolean): Promise<void> {
    this.powered = true;
    this.log.push(deleteVolatile ? 'init, delete' : 'init');
    return Promise.resolve();
  }

  hashStart(): Promise<void> {
    this.log.push('hash start');
    return Promise.resolve();
  }

  hashData(data: Buffer): Promise<void> {
    this.log.push(`hash ${data.toString('latin1')}`);
    return Promise.resolve();
  }

  hashEnd(): Promise<void> {
    this.log.push('hash end');
    return Promise.resolve();
  }

  signal(signal: PlatformSignal): Promise<void> {
    this.log.push(signal);
    return Promise.resolve();
  }

  getState(part: StatePart): Promise<Buffer> {
    return Promise.resolve(Buffer.from(`${part} state`));
  }

  setState(part: StatePart, blob: Buffer): Promise<void> {
    if (blob.toString('latin1') !== `${part} state`) return Promise.reject(new StateRefused('not an echo'));
    this.log.push(`set ${part}`);
    return Promise.resolve();
  }

  storeVolatile(): Promise<void> {
    this.log.push('store');
    return Promise.resolve();
  }

  cancel(): void {
    this.log.push('cancel');
  }

  resetEstablished(locality: number): Promise<boolean> {
    return Promise.resolve(locality === 3 || locality === 4);
  }
}
