// A TPM device of the host (/dev/tpmN): the kernel hands each command over on a descriptor and takes the response there.
import { readSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { systemCode } from '../failure.js';
import { closeFd, DescriptorWatch } from '../native/index.js';
import { MAX_COMMAND_SIZE } from '../tpm/constants/index.js';
import { errorResponse, frameCode, HEADER_SIZE } from '../tpm/frame.js';
import { TPM_RC } from '../tpm/response-code.js';
import type { GuestLink } from './guest-link.js';

/** linux/vtpm_proxy.h, TPM2_CC_SET_LOCALITY: the driver's own request; users of the device cannot send it. Its parameter is one byte. */
const SET_LOCALITY = 0x20001000;
const MAX_LOCALITY = 4;

/** Serves one device. */
export class DeviceServer {
  private readonly watch: DescriptorWatch;
  private readonly done: Promise<void>;
  private locality = 0;
  private closing = false;
  private busy = false;

  /** Takes `fd` over. Throws when it cannot be waited for. */
  constructor(
    fd: number,
    private readonly link: GuestLink,
  ) {
    try {
      this.watch = new DescriptorWatch(fd);
    } finally {
      closeFd(fd);
    }
    this.done = this.run()
      .catch((error: unknown) => {
        this.link.onDefect(error);
      })
      .finally(() => {
        this.watch.close();
      });
  }

  /** Resolves when the device is gone. */
  get ended(): Promise<void> {
    return this.done;
  }

  /** Lets the command that runs end, at most `grace` milliseconds; the device goes. */
  async close(grace: number): Promise<void> {
    this.closing = true;
    if (!this.busy) this.watch.close();
    await Promise.race([this.done, delay(grace, undefined, { ref: false })]);
    this.watch.close();
  }

  private async run(): Promise<void> {
    // One byte more than a command can have, so that a longer one is seen to be.
    const buffer = Buffer.alloc(MAX_COMMAND_SIZE + 1);
    while (!this.closing && (await this.watch.readable())) {
      const size = this.read(buffer);
      if (size === 0) return;
      if (size === undefined) continue;
      this.busy = true;
      const response = await this.execute(buffer.subarray(0, size));
      buffer.fill(0, 0, size);
      this.busy = false;
      if (!this.write(response)) return;
    }
  }

  /** One command; undefined: there was none after all. */
  private read(buffer: Buffer): number | undefined {
    try {
      return readSync(this.watch.fd, buffer);
    } catch (error) {
      const code = systemCode(error);
      if (code === 'EAGAIN' || code === 'EINTR') return undefined;
      // The driver hands out nothing more once the device is gone.
      if (code === 'EPIPE' || code === 'EIO' || code === 'ECONNRESET') return 0;
      throw error;
    }
  }

  private async execute(command: Buffer): Promise<Buffer> {
    if (command.length < HEADER_SIZE) return errorResponse(TPM_RC.COMMAND_SIZE);
    if (command.length > MAX_COMMAND_SIZE) return errorResponse(TPM_RC.COMMAND_SIZE);
    if (frameCode(command) === SET_LOCALITY) return this.setLocality(command);
    return this.link.tpm.execute(command, this.locality);
  }

  private setLocality(command: Buffer): Buffer {
    if (command.length !== HEADER_SIZE + 1) return errorResponse(TPM_RC.COMMAND_SIZE);
    const locality = command.readUInt8(HEADER_SIZE);
    if (locality > MAX_LOCALITY) return errorResponse(TPM_RC.LOCALITY);
    this.locality = locality;
    return errorResponse(TPM_RC.SUCCESS);
  }

  /** False when nobody waits for it any more because the device is gone. */
  private write(response: Buffer): boolean {
    try {
      writeSync(this.watch.fd, response);
      return true;
    } catch (error) {
      // EFAULT, EIO: the driver gave the command up, and goes on with the next one.
      const code = systemCode(error);
      if (code === 'EIO' || code === 'EFAULT') return true;
      if (code === 'EPIPE' || code === 'EBADF' || code === 'ECONNRESET') return false;
      throw error;
    }
  }
}
