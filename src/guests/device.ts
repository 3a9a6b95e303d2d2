// The TPM device of one guest on the host (/dev/tpmN), for containers.
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { reasonOf, systemCode } from '../failure.js';
import { createVtpmProxy, type VtpmProxy } from '../native/index.js';
import type { GuestEndpoint } from '../transport/guest-endpoint.js';
import { noDevices } from './failures.js';
import type { Logger } from '../logger.js';

/** What is asked of the endpoint that serves the device. */
type DeviceEndpoint = Pick<GuestEndpoint, 'serveDevice' | 'endDevice'>;

/** What the kernel does. */
export interface DeviceKernel {
  /** Throws a system error. */
  create(): VtpmProxy;
  /** Whether programs can open the device. */
  exists(path: string): boolean;
}

const KERNEL: DeviceKernel = { create: createVtpmProxy, exists: existsSync };
/**
 * The kernel tests the TPM before it shows the device, and gives up when TPM2_Startup takes 750 ms, as it may on a busy host. The
 * next time the TPM has been started.
 */
const ATTEMPTS = 3;
/** How long the kernel's tests may take, in milliseconds. */
const TIMEOUT_MS = 20_000;
const POLL_MS = 20;

/** The device of one guest: it exists while the guest runs, and can have another number each time that it is made. */
export class GuestDevice {
  private current: { readonly path: string; readonly endpoint: DeviceEndpoint } | undefined;

  constructor(
    private readonly guest: string,
    private readonly log: Logger,
    private readonly kernel = KERNEL,
  ) {}

  /** Its path; undefined if there is none. */
  get path(): string | undefined {
    return this.current?.path;
  }

  /** Makes it, and resolves when it can be used; one that is there stays. Rejects with a `Failure` where the kernel cannot make one. */
  async make(endpoint: DeviceEndpoint): Promise<void> {
    if (this.current?.endpoint === endpoint) return;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      if (await this.attempt(endpoint)) return;
      this.log.warn('the kernel has not taken the TPM device', { guest: this.guest, attempt });
    }
    await this.end(endpoint);
    throw noDevices(this.guest, 'the kernel has not taken it (dmesg says why)');
  }

  /** As {@link make}, for a guest that had one when it last ran. That it cannot be made is said in the log, and no reason not to start. */
  async remake(endpoint: DeviceEndpoint): Promise<void> {
    try {
      await this.make(endpoint);
    } catch (error) {
      this.log.error('the TPM device of a guest could not be made again', { guest: this.guest, reason: reasonOf(error) });
    }
  }

  /** Takes it away. */
  async end(endpoint: DeviceEndpoint): Promise<void> {
    await endpoint.endDevice();
    this.current = undefined;
  }

  private async attempt(endpoint: DeviceEndpoint): Promise<boolean> {
    const { fd, number } = this.proxy();
    const made = { path: `/dev/tpm${number.toString()}`, endpoint };
    this.current = made;
    await endpoint.serveDevice(fd, () => {
      if (this.current === made) this.current = undefined;
    });
    for (const end = Date.now() + TIMEOUT_MS; Date.now() < end && this.path === made.path;) {
      if (this.kernel.exists(made.path)) {
        this.log.info('device made', { guest: this.guest, device: made.path });
        return true;
      }
      await delay(POLL_MS);
    }
    return false;
  }

  private proxy(): VtpmProxy {
    try {
      return this.kernel.create();
    } catch (error) {
      const code = systemCode(error) ?? reasonOf(error);
      const missing = ['ENOENT', 'ENXIO', 'ENODEV', 'ENOTTY'].includes(code);
      throw noDevices(this.guest, missing ? 'the kernel has no /dev/vtpmx' : `/dev/vtpmx cannot be used: ${code}`);
    }
  }
}
