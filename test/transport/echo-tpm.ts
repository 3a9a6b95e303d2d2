// Stands in for a guest's TPM where only the way to it is tested: it gives the body of a command back, with the locality.
import { setTimeout as sleep } from 'node:timers/promises';
import type { GuestTpm } from '../../src/vtpm/guest-tpm.js';

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
  established = false;
  /** What happened, in order. */
  readonly log: string[] = [];
  /** How long a command takes, in milliseconds. */
  delay = 0;
  private queue: Promise<unknown> = Promise.resolve();

  execute(command: Buffer, locality: number): Promise<Buffer> {
    const copy = Buffer.from(command);
    const result = this.queue.then(async () => {
      if (this.delay > 0) await sleep(this.delay);
      this.log.push(`${copy.subarray(10, 30).toString('latin1')}@${locality.toString()}`);
      return copy;
    });
    this.queue = result;
    return result;
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

  cancel(): void {
    this.log.push('cancel');
  }

  resetEstablished(locality: number): boolean {
    return locality === 3 || locality === 4;
  }
}
