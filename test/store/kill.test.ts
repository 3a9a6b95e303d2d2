import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openHostStore } from '../support/host-store.js';
import { GUEST, STATE_KEY } from './commit-loop.js';

describe('a daemon that is killed', () => {
  it('leaves a store that opens and holds all that was acknowledged', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tpmux-kill-'));
    let acknowledged = -1;
    try {
      for (let round = 0; round < 6; round++) {
        acknowledged = Math.max(acknowledged, await killDuringCommits(directory, 300 + round * 37));
        const store = await openHostStore(directory);
        const records = new Map(await store.guestRecords(GUEST, STATE_KEY).load(''));
        await store.close();
        const stored = Number(records.get('counter')?.toString());
        assert.ok(stored >= acknowledged, `acknowledged ${acknowledged.toString()}, stored ${stored.toString()}`);
        assert.equal(records.get('copy')?.toString(), stored.toString(), 'records of one commit belong together');
      }
    } finally {
      await rm(directory, { recursive: true });
    }
    assert.ok(acknowledged > 10);
  });
});

/** Runs commits in a child, kills it some time after its first one, and gives the last number it acknowledged. */
async function killDuringCommits(directory: string, milliseconds: number): Promise<number> {
  const script = new URL('./commit-loop.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, ['--import', 'tsx', script, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  await new Promise<void>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk;
      resolve();
    });
  });
  // When it is killed is what the runs differ in.
  await sleep(milliseconds);
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('close', resolve));
  const complete = output.slice(0, output.lastIndexOf('\n'));
  return Number(complete.slice(complete.lastIndexOf('\n') + 1));
}
