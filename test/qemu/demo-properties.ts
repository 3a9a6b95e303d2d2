// Runs the scenario of scripts/demo-properties and prints what happens.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KernelUpdate } from './kernel-update.js';
import { runKernelUpdate } from './kernel-update-run.js';
import { missingForQemu } from './machine.js';

const missing = missingForQemu();
if (missing !== '') throw new Error(`${missing} not found : scripts/setup installs what is needed`);
const root = await mkdtemp(join(tmpdir(), 'tpmux-demo-properties-'));
let update: KernelUpdate | undefined;
try {
  console.log('fetching kernels and a boot loader from the Debian archive, unless they are here already');
  update = await KernelUpdate.prepare(root);
  await runKernelUpdate(update, {
    step: (title) => {
      console.log(`\n\x1b[1m${title}\x1b[0m`);
    },
    fact: (text) => {
      console.log(`  ${text}`);
    },
  });
  console.log('\n\x1b[32mEverything went as shown.\x1b[0m');
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await update?.close();
  await rm(root, { recursive: true, force: true });
}
