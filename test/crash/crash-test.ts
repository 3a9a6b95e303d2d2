// A daemon with several guests at work is killed with -9 at random moments, again and again. What was acknowledged is there afterwards.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Running, startTpmux, tpmux } from '../cli/command-line.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { CrashGuest } from './guest.js';

export interface CrashOptions {
  /** How often the daemon is killed. */
  readonly rounds: number;
  readonly guests: number;
  /** Longest time between a start and a kill, in milliseconds. */
  readonly longest: number;
  readonly progress?: (line: string) => void;
}

/** Rejects with an `AssertionError` at the first loss. Resolves with the number of acknowledged commands. */
export async function runCrashTest({ rounds, guests: count, longest, progress }: CrashOptions): Promise<number> {
  const chip = await startSwtpm();
  const directory = await mkdtemp(join(tmpdir(), 'tpmux-crash-'));
  const runDir = join(directory, 'run');
  const names = Array.from({ length: count }, (_, i) => `guest${i.toString()}`);
  const guests = names.map((name) => new CrashGuest(name, join(runDir, 'guests', name, 'tpm.sock')));
  const acknowledged = (): number => guests.reduce((sum, guest) => sum + guest.acknowledged, 0);
  let daemon: Running | undefined;
  try {
    daemon = await startDaemon(chip, directory, runDir);
    for (const name of names) {
      const created = await tpmux(['guest', 'create', name, '--run-dir', runDir]);
      assert.equal(created.code, 0, created.err);
    }
    for (const guest of guests) await guest.connect();
    for (let round = 1; round <= rounds; round++) {
      const work = Promise.all(guests.map((guest) => guest.work()));
      await Promise.race([delay(Math.random() * longest), work]);
      daemon.child.kill('SIGKILL');
      await Promise.all([daemon.result, work]);
      daemon = await startDaemon(chip, directory, runDir);
      for (const guest of guests) await guest.connect();
      if (round % 10 === 0) progress?.(`${round.toString()} kills, ${acknowledged().toString()} acknowledged commands, nothing lost`);
    }
    return acknowledged();
  } finally {
    for (const guest of guests) guest.close();
    daemon?.child.kill('SIGKILL');
    await daemon?.result;
    await chip.stop();
    await rm(directory, { recursive: true });
  }
}

async function startDaemon(chip: Swtpm, directory: string, runDir: string): Promise<Running> {
  const daemon = startTpmux(['serve', '--tcti', chip.tcti, '--state-dir', join(directory, 'state'), '--run-dir', runDir]);
  const ended = once(daemon.child, 'close').then(() => assert.fail(`the daemon ended: ${daemon.err()}`));
  ended.catch(() => undefined);
  while (!daemon.out().includes('ready')) await Promise.race([delay(20), ended]);
  return daemon;
}
