// Programs of Debian packages that the machines need and this host may lack, kept from one run to the next.
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CACHE } from './debian-kernel.js';
import { DebianSuite, release } from './debian-archive.js';

/** Path of a program on this host: where its package puts it, or a copy out of the package, which is not installed. Rejects if it cannot be had. */
export async function debianProgram(packageName: string, path: string): Promise<string> {
  if (existsSync(join('/', path))) return join('/', path);
  const copy = join(CACHE, 'programs', basename(path));
  if (existsSync(copy)) return copy;
  await mkdir(join(CACHE, 'programs'), { recursive: true });
  const work = await mkdtemp(join(CACHE, 'work-'));
  const suite = await DebianSuite.open(await release());
  try {
    await suite.unpack(packageName, work);
    await copyFile(join(work, path), copy);
  } finally {
    await suite.close();
    await rm(work, { recursive: true, force: true });
  }
  return copy;
}
