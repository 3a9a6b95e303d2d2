// A TPM device of the host that this process serves: linux/vtpm_proxy.h, /dev/vtpmx.
import { addon, systemError } from './addon.js';

/** A device that was made. It exists until `fd`, and each duplicate of it, is closed. */
export interface VtpmProxy {
  /** One read brings one command, one write takes one response. A read waits, whatever the flags say; poll works. */
  readonly fd: number;
  /** N of /dev/tpmN. */
  readonly number: number;
  readonly major: number;
  readonly minor: number;
}

/** Makes a TPM 2.0 device. Throws an Error with `code`, `errno` and `syscall`: `ENOENT` or `ENXIO` without the module tpm_vtpm_proxy. */
export function createVtpmProxy(path = '/dev/vtpmx'): VtpmProxy {
  const result = addon().vtpmProxyDevice(path);
  if (typeof result === 'number') throw systemError(result, 'vtpm_proxy');
  return result;
}
