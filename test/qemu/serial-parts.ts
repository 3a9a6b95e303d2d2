// What a machine needs besides the common initramfs to use lines: drivers of the virtio ones, and the relay that the documentation gives.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Kernel } from './debian-kernel.js';
import { initramfsWith, placeDrivers } from './initramfs.js';

const PAGE = new URL('../../docs/attach-serial.md', import.meta.url);

/** The script that docs/attach-serial.md gives for the `cmd:` TCTI. */
async function relay(): Promise<string> {
  const text = await readFile(PAGE, 'utf8');
  const block = /^( {4}#!\/bin\/sh\n(?: {4}.*\n)+)/m.exec(text)?.[1];
  if (block === undefined) throw new Error('docs/attach-serial.md has no relay');
  return block.replaceAll(/^ {4}/gm, '');
}

/** Path of an initramfs for lines, in `directory`: the relay is in it as `tpm-relay`. */
export function serialInitramfs(directory: string, kernel: Kernel): Promise<string> {
  return initramfsWith(join(directory, 'initramfs'), async (root) => {
    await mkdir(join(root, 'bin'));
    await writeFile(join(root, 'bin/tpm-relay'), await relay(), { mode: 0o755 });
    await placeDrivers(root, kernel);
  });
}
