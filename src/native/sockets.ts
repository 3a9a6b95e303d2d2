// Sockets that are made, asked about and ended without Node, which would remove their files or read from them.
import { addon, systemError } from './addon.js';
import { checkFd } from './descriptors.js';

/** A socket, as the kernel knows it. Unnamed UNIX sockets and other families have no address. */
export interface SocketDescription {
  readonly stream: boolean;
  readonly listening: boolean;
  readonly path?: string;
  readonly host?: string;
  readonly port?: number;
}

/**
 * Listens at `path`; the socket's file gets mode 0600 and stays until somebody removes it. The descriptor is the caller's. Throws an
 * Error with `code`, `errno` and `syscall`.
 */
export function listenUnix(path: string): number {
  const result = addon().listenUnix(path);
  if (result < 0) throw systemError(result, 'bind');
  return result;
}

/** A datagram socket at `path`; otherwise as {@link listenUnix}. */
export function bindDatagram(path: string): number {
  const result = addon().bindDatagram(path);
  if (result < 0) throw systemError(result, 'bind');
  return result;
}

/** What `fd` is; undefined if it is no socket. Throws as {@link listenUnix}. */
export function describeSocket(fd: number): SocketDescription | undefined {
  checkFd(fd);
  const result = addon().describeSocket(fd);
  if (typeof result !== 'number') return result;
  const error = systemError(result, 'getsockopt');
  if (error.code === 'ENOTSOCK') return undefined;
  throw error;
}

/** Ends a connection for its peer, whoever else has the descriptor too. One that is ended already stays so. */
export function shutdownSocket(fd: number): void {
  checkFd(fd);
  const result = addon().shutdownSocket(fd);
  if (result >= 0) return;
  const error = systemError(result, 'shutdown');
  if (error.code !== 'ENOTCONN') throw error;
}

/** Another descriptor of the same socket or file, close-on-exec. It is the caller's. Throws as {@link listenUnix}. */
export function duplicateFd(fd: number): number {
  checkFd(fd);
  const result = addon().duplicateFd(fd);
  if (result < 0) throw systemError(result, 'fcntl');
  return result;
}

/** Keeps `fd` from the programs that this process runs. Throws as {@link listenUnix}; `EBADF` if there is no such descriptor. */
export function setCloseOnExec(fd: number): void {
  checkFd(fd);
  const result = addon().setCloseOnExec(fd);
  if (result < 0) throw systemError(result, 'fcntl');
}
