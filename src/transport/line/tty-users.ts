// Who has a tty as controlling terminal: proc(5), field tty_nr of /proc/PID/stat.
import { readdir, readFile } from 'node:fs/promises';

/** A process whose controlling terminal is the tty with this device number, if there is one that can be seen. */
export async function processOnTty(device: number): Promise<number | undefined> {
  if (device === 0) return undefined;
  const entries = await readdir('/proc').catch(() => []);
  const wanted = ttyNumber(device);
  for (const entry of entries) {
    if (!/^\d+$/.test(entry)) continue;
    const line = await readFile(`/proc/${entry}/stat`, 'latin1').catch(() => '');
    // The name, in parentheses, may contain anything; after it come state, ppid, pgrp, session, tty_nr.
    const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
    if (Number(fields[4]) === wanted) return Number(entry);
  }
  return undefined;
}

/** A device number as stat(2) gives it, in the form of proc(5): major in bits 8 to 19, minor in bits 0 to 7 and 20 to 31. */
function ttyNumber(device: number): number {
  const bits = BigInt(device);
  const major = Number(((bits >> 8n) & 0xfffn) | ((bits >> 32n) & 0xfffff000n));
  const minor = Number((bits & 0xffn) | ((bits >> 12n) & 0xffffff00n));
  return (minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12);
}
