// Waiting until a descriptor can be read or written, without doing it: Node's own sockets read too, and lose descriptors that come along.
import { addon, systemError, type NativeWatch } from './addon.js';
import { checkFd } from './descriptors.js';

/** Tells when a descriptor can be read or written. It works on a duplicate, so a `net.Socket` may go on writing to the same descriptor. */
export class DescriptorWatch {
  /** The duplicate, for {@link recvWithFds}; closed by {@link close}. */
  readonly fd: number;
  private readonly native: NativeWatch;
  private waiter: ((ready: boolean) => void) | undefined;
  private closed = false;

  /** Throws an Error with `code`, `errno` and `syscall` if `fd` cannot be watched (`EPERM` for a regular file). */
  constructor(fd: number) {
    checkFd(fd);
    this.native = new (addon().Watch)(fd);
    const error = this.native.error();
    if (error !== 0) throw systemError(error, 'epoll_ctl');
    this.fd = this.native.descriptor();
  }

  /** Resolves with true when there is something to read, or the peer has closed; with false once {@link close} was called. One at a time. */
  readable(): Promise<boolean> {
    return this.ready(false);
  }

  /** As {@link readable}, for writing; only one of the two at a time. */
  writable(): Promise<boolean> {
    return this.ready(true);
  }

  private ready(writable: boolean): Promise<boolean> {
    if (this.waiter !== undefined) throw new Error('the descriptor is being waited for already');
    if (this.closed) return Promise.resolve(false);
    return new Promise((resolve, reject) => {
      this.waiter = resolve;
      const result = this.native.once(() => {
        this.settle(true);
      }, writable);
      if (result < 0) reject(systemError(result, 'epoll_ctl'));
    });
  }

  /** Ends the watch and closes the duplicate. Closing twice is one close. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.native.close();
    this.settle(false);
  }

  private settle(ready: boolean): void {
    const { waiter } = this;
    this.waiter = undefined;
    waiter?.(ready);
  }
}
