// The service manager's notification protocol, sd_notify(3): datagrams to the socket named by $NOTIFY_SOCKET.
import { addon, systemError } from './addon.js';
import { checkFds } from './descriptors.js';

/**
 * Tells systemd a state such as `READY=1`, `STOPPING=1` or `STATUS=…` (several: one a line). `fds` go along with
 * `FDSTORE=1`. Returns false when nobody is to be told (`NOTIFY_SOCKET` is unset). Throws an Error with `code`,
 * `errno` and `syscall` when the socket does not take it within half a second, or its name is neither an absolute
 * path nor `@` and an abstract name. Without `wait` the socket has to take it at once (`EAGAIN`).
 */
export function sdNotify(state: string, fds: readonly number[] = [], { wait = true }: { readonly wait?: boolean } = {}): boolean {
  const path = process.env['NOTIFY_SOCKET'];
  if (path === undefined || path === '') return false;
  if (!/^[/@][^\0]+$/.test(path)) throw new Error(`NOTIFY_SOCKET is neither an absolute path nor an abstract name: ${path}`);
  checkFds(fds);
  const result = addon().sendDatagram(path, Buffer.from(state, 'utf8'), fds, wait);
  if (result < 0) throw systemError(result, 'sendmsg');
  return true;
}
