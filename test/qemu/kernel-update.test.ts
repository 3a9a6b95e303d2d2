// Sealing and attestation by property, in virtual machines whose boot loader and kernel are updated.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KernelUpdate } from './kernel-update.js';
import { runKernelUpdate } from './kernel-update-run.js';
import { missingForQemu } from './machine.js';

describe('an update of boot loader and kernel', function () {
  this.timeout(1_200_000);
  let root: string;
  let update: KernelUpdate | undefined;

  before(async function () {
    const missing = missingForQemu();
    if (missing !== '') {
      console.error(`    virtual machines are not tested: ${missing} not found (scripts/setup installs what is needed)`);
      this.skip();
    }
    root = await mkdtemp(join(tmpdir(), 'tpmux-update-'));
  });
  after(async () => {
    await update?.close();
    await rm(root, { recursive: true, force: true });
  });

  it('keeps what was sealed and attested by properties, and nothing else', async () => {
    const lines: string[] = [];
    const note = (text: string): void => {
      lines.push(text);
    };
    update = await KernelUpdate.prepare(root);
    try {
      await runKernelUpdate(update, { step: note, fact: note });
    } catch (error) {
      console.error(lines.join('\n'));
      throw error;
    }
  });
});
