// A daemon with several guests at work is killed with -9 at random moments, again and again. What was acknowledged is there afterwards, be it
// on the disk or in memory.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Running, startTpmux, tpmux, serving } from '../cli/command-line.js';
import { compiledTpmux } from '../cli/compiled.js';
import { startSwtpm } from '../support/swtpm.js';
import { CrashGuest } from './guest.js';

export interface CrashOptions {
  /** How often the daemon is killed while guests work. */
  readonly rounds: number;
  readonly guests: number;
  /** Longest time between a start and a kill, in milliseconds. */
  readonly longest: number;
  readonly progress?: (line: string) => void;
}

/** Once in so many starts the daemon is killed before it is ready. */
const EARLY_KILLS = 10;
const LONGEST_START = 1000;

/** Rejects with an `AssertionError` at the first loss. Resolves with the number of acknowledged commands. */
export async function runCrashTest({ rounds, guests: count, longest, progress }: CrashOptions): Promise<number> {
  const chip = await startSwtpm();
  const program = compiledTpmux().slice(1);
  const directory = await mkdtemp(join(tmpdir(), 'tpmux-crash-'));
  const runDir = join(directory, 'run');
  const names = Array.from({ length: count }, (_, i) => `guest${i.toString()}`);
  const guests = names.map((name) => new CrashGuest(name, join(runDir, 'guests', name, 'tpm.sock')));
  const acknowledged = (): number => guests.reduce((sum, guest) => sum + guest.acknowledged, 0);
  const start = (): Running =>
    startTpmux(['serve', '--tcti', chip.tcti, '--state-dir', join(directory, 'state'), '--run-dir', runDir], {}, program);
  let daemon: Running | undefined;
  try {
    daemon = start();
    await serving(daemon);
    for (const name of names) {
      const created = await tpmux(['guest', 'create', name, '--run-dir', runDir], {}, program);
      assert.equal(created.code, 0, created.err);
    }
    await Promise.all(guests.map((guest) => guest.connect()));
    for (let round = 1; round <= rounds; round++) {
      const work = Promise.all(guests.map((guest) => guest.work()));
      await Promise.race([delay(Math.random() * longest), work]);
      await kill(daemon);
      await work;
      daemon = start();
      if (Math.random() < 1 / EARLY_KILLS) {
        await delay(Math.random() * LONGEST_START);
        await kill(daemon);
        daemon = start();
      }
      await serving(daemon);
      await reconnect(guests, daemon);
      if (round % 10 === 0) progress?.(`${round.toString()} kills, ${acknowledged().toString()} acknowledged commands, nothing lost`);
    }
    return acknowledged();
  } finally {
    for (const guest of guests) guest.close();
    if (daemon !== undefined) await kill(daemon);
    await chip.stop();
    await rm(directory, { recursive: true });
  }
}

async function reconnect(guests: readonly CrashGuest[], daemon: Running): Promise<void> {
  try {
    await Promise.all(guests.map((guest) => guest.connect()));
  } catch (error) {
    throw new Error(`the daemon said: ${daemon.err()}`, { cause: error });
  }
}

async function kill(daemon: Running): Promise<void> {
  daemon.child.kill('SIGKILL');
  await daemon.result;
}
