// Passing file descriptors and asking who is at the other end of a UNIX socket: system calls that Node lacks.
import { addon, systemError } from './addon.js';

/** What {@link recvWithFds} brought. Empty `data` means that the peer has closed. */
export interface Received {
  readonly data: Buffer;
  /** Descriptors that came along, marked close-on-exec; they belong to the caller, who closes them. */
  readonly fds: number[];
}

/** Who opened the other end of a UNIX socket (`SO_PEERCRED`). */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** Most bytes that one {@link recvWithFds} can ask for. */
export const MAX_RECEIVE_BYTES = 1 << 20;
/** Most descriptors in one message; more are closed and refused with `EMSGSIZE`. */
export const MAX_MESSAGE_FDS = 16;

/** Throws a RangeError unless `fd` can be a file descriptor. */
export function checkFd(fd: number): void {
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) throw new RangeError(`not a file descriptor: ${fd.toString()}`);
}

/** Throws a RangeError unless `fds` can go into one message. */
export function checkFds(fds: readonly number[]): void {
  if (fds.length > MAX_MESSAGE_FDS) throw new RangeError(`more than ${MAX_MESSAGE_FDS.toString()} descriptors in one message`);
  fds.forEach(checkFd);
}

/**
 * One `recvmsg` of at most `maxBytes` bytes, without waiting: null when nothing is there. Other failures throw an
 * Error with `code`, `errno` and `syscall`, as Node's do.
 */
export function recvWithFds(fd: number, maxBytes: number): Received | null {
  checkFd(fd);
  if (!Number.isInteger(maxBytes) || maxBytes < 1 || maxBytes > MAX_RECEIVE_BYTES) {
    throw new RangeError(`maxBytes must be 1 to ${MAX_RECEIVE_BYTES.toString()}`);
  }
  const result = addon().recvWithFds(fd, maxBytes);
  if (typeof result !== 'number') return result;
  const error = systemError(result, 'recvmsg');
  if (error.code === 'EAGAIN') return null;
  throw error;
}

/**
 * One `sendmsg` of `data` and `fds`, without waiting. At least one byte must go with descriptors, which the receiver
 * gets as duplicates. Returns the number of bytes that were taken; throws as {@link recvWithFds}, with `EAGAIN` too.
 */
export function sendWithFds(fd: number, data: Uint8Array, fds: readonly number[] = []): number {
  checkFd(fd);
  checkFds(fds);
  if (fds.length > 0 && data.length === 0) throw new RangeError('descriptors need at least one byte of data');
  const result = addon().sendWithFds(fd, data, fds);
  if (result < 0) throw systemError(result, 'sendmsg');
  return result;
}

/** Process, user and group that connected the UNIX socket `fd`, as they were then. Throws as {@link recvWithFds}. */
export function peerCredentials(fd: number): PeerCredentials {
  checkFd(fd);
  const result = addon().peerCredentials(fd);
  if (typeof result === 'number') throw systemError(result, 'getsockopt');
  return result;
}

/** Two connected UNIX stream sockets, close-on-exec, as descriptors. The caller closes both. */
export function socketPair(): [number, number] {
  const result = addon().socketPair();
  if (typeof result === 'number') throw systemError(result, 'socketpair');
  return result;
}

/** Acknowledges what has come on the TCP socket `fd` now, rather than 40 ms later (`TCP_QUICKACK`). Throws as {@link recvWithFds}. */
export function quickAck(fd: number): void {
  checkFd(fd);
  const result = addon().quickAck(fd);
  if (result < 0) throw systemError(result, 'setsockopt');
}

/** Whether there is something to read on `fd`, or its peer has ended; does not wait. Throws as {@link recvWithFds}. */
export function hasInput(fd: number): boolean {
  checkFd(fd);
  const result = addon().hasInput(fd);
  if (result < 0) throw systemError(result, 'poll');
  return result > 0;
}

/** Closes `fd`. Throws as {@link recvWithFds}. */
export function closeFd(fd: number): void {
  checkFd(fd);
  const result = addon().closeFd(fd);
  if (result < 0) throw systemError(result, 'close');
}
