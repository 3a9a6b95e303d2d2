// What guests listen on or open that only one of them can have.
import type { GuestListen } from '../config/listen.js';
import { lineTaken, portTaken } from './failures.js';

/** Throws a {@link Failure} if `wanted`, of the new guest `name`, needs what one of `others` has, or the same thing twice. */
export function checkClaims(name: string, wanted: GuestListen, others: Iterable<readonly [string, GuestListen]>): void {
  const { tcp, mssim } = wanted;
  if (tcp !== undefined && mssim !== undefined && overlap(tcp, mssim)) throw portTaken(name, mssim, name);
  const repeated = paths(wanted).find((path, index, all) => all.indexOf(path) !== index);
  if (repeated !== undefined) throw lineTaken(name, repeated, name);
  for (const [other, used] of others) {
    const port = ports(wanted).find((each) => ports(used).some((taken) => overlap(each, taken)));
    if (port !== undefined) throw portTaken(name, port, other);
    const path = paths(wanted).find((each) => paths(used).includes(each));
    if (path !== undefined) throw lineTaken(name, path, other);
  }
}

/** Each port stands for itself and the one after it. */
function overlap(a: number, b: number): boolean {
  return Math.abs(a - b) < 2;
}

function ports({ tcp, mssim }: GuestListen): number[] {
  return [tcp, mssim].filter((port) => port !== undefined);
}

function paths({ serial = [], consoleSockets = [] }: GuestListen): string[] {
  return [...serial, ...consoleSockets];
}
