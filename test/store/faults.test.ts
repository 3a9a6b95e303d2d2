// Every call by which the store changes its files fails once, and from then on until somebody cares: with ENOSPC and with EIO.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { buildShim, FaultControl, faultEnvironment } from '../fault/shim.js';

const WORKLOAD = fileURLToPath(new URL('./fault-workload.ts', import.meta.url));

describe('the store on a failing disk', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await realpath(await mkdtemp(join(tmpdir(), 'tpmux-faults-')));
  });
  afterEach(() => rm(directory, { recursive: true }));

  it('loses nothing, invents nothing and goes on, whichever call fails', async function () {
    this.timeout(180_000);
    const state = join(directory, 'state');
    const control = join(directory, 'control');
    const faults = FaultControl.create(control);
    faults.close();
    const env = { ...process.env, ...faultEnvironment(await buildShim(directory), state, control) };
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', WORKLOAD, state, control], { env });
    const result = JSON.parse(stdout) as { faults: number; rejections: number };
    assert.ok(result.faults > 20, stdout);
    assert.ok(result.rejections > 0, 'lasting failures are reported');
    console.log(`      ${result.faults.toString()} faults, of which ${result.rejections.toString()} reached a writer, nothing lost`);
  });
});
