// Who is at the other end of a machine's control connection, for people.
import { readFileSync } from 'node:fs';
import { peerCredentials } from '../../native/index.js';

/** A program of this host. */
export interface Holder {
  /** 0 if it is in another PID namespace. */
  readonly pid: number;
  /** As the kernel calls it, at most 15 characters; empty if that is not known. */
  readonly program: string;
}

/** Who connected on the UNIX socket `fd`; undefined if it is no such socket. */
export function holderOf(fd: number): Holder | undefined {
  try {
    const { pid } = peerCredentials(fd);
    return { pid, program: programOf(pid) };
  } catch {
    return undefined;
  }
}

function programOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid.toString()}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

/** In a few words, e.g. `qemu-system-x86 (process 4711)`. */
export function describeHolder(holder: Holder | undefined): string {
  if (holder === undefined) return 'a machine';
  return `${holder.program === '' ? 'a program' : holder.program} (process ${holder.pid.toString()})`;
}
