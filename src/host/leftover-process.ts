// A child process that outlived a killed daemon: found by a file that names it, and ended only if it really is that one.
import { readFile, rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemCode } from '../failure.js';

const POLL_MS = 20;
const TERM_POLLS = 150;

/** Notes that `pid` is running. */
export async function writePidFile(path: string, pid: number): Promise<void> {
  await writeFile(path, `${pid.toString()}\n`, { mode: 0o600 });
}

/**
 * Ends the process that the file names if every one of `marks` is an argument of it, and removes the file.
 * Resolves when the process is gone, with its id, or undefined if there was none.
 */
export async function endLeftover(pidFile: string, marks: readonly string[]): Promise<number | undefined> {
  const pid = Number.parseInt(await readFile(pidFile, 'utf8').catch(() => ''), 10);
  const found = Number.isSafeInteger(pid) && pid > 1 && (await isOurs(pid, marks));
  if (found) await end(pid, marks);
  await rm(pidFile, { force: true });
  return found ? pid : undefined;
}

async function isOurs(pid: number, marks: readonly string[]): Promise<boolean> {
  const commandLine = await readFile(`/proc/${pid.toString()}/cmdline`, 'utf8').catch(() => '');
  const args = commandLine.split('\0');
  return marks.every((mark) => args.includes(mark));
}

async function end(pid: number, marks: readonly string[]): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if (systemCode(error) === 'ESRCH') return;
      throw error;
    }
    for (let i = 0; i < TERM_POLLS; i++) {
      if (!(await isOurs(pid, marks))) return;
      await sleep(POLL_MS);
    }
  }
}
