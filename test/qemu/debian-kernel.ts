// A Debian kernel to boot, taken out of its package without installing it.
import { execFile } from 'node:child_process';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';

const run = promisify(execFile);
/** Where what the machines boot is kept from one run to the next. */
export const CACHE = fileURLToPath(new URL('../../build/qemu/', import.meta.url));
/** Depends on the newest kernel for virtual machines: TIS, CRB, IMA and the event log are built in. */
const META_PACKAGE = 'linux-image-cloud-amd64';

/** Path of a kernel: `TPMUX_TEST_KERNEL`, or the one that was downloaded before, or that of the distribution now. */
export async function debianKernel(): Promise<string> {
  const given = process.env['TPMUX_TEST_KERNEL'];
  if (given !== undefined && given !== '') return given;
  await mkdir(CACHE, { recursive: true });
  return (await find(CACHE)) ?? (await download());
}

async function find(directory: string): Promise<string | undefined> {
  const name = (await readdir(directory)).find((entry) => entry.startsWith('vmlinuz-'));
  return name && join(directory, name);
}

async function download(): Promise<string> {
  const work = join(CACHE, `work-${process.pid.toString()}`);
  await mkdir(work, { recursive: true });
  try {
    await run('apt-get', ['-q', 'download', await packageName()], { cwd: work });
    const archive = (await readdir(work)).find((entry) => entry.endsWith('.deb'));
    await run('dpkg-deb', ['-x', join(work, archive ?? ''), work]);
    const found = await find(join(work, 'boot'));
    if (found === undefined) throw new Error(`there is no kernel in ${archive ?? 'the package'}`);
    const kept = join(CACHE, found.slice(found.lastIndexOf('/') + 1));
    await rename(found, kept);
    return kept;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function packageName(): Promise<string> {
  let name = await newestKernel();
  if (name === undefined && process.getuid?.() === 0) {
    await run('apt-get', ['-q', 'update']);
    name = await newestKernel();
  }
  if (name === undefined) throw new Error(`apt knows no ${META_PACKAGE} : run apt-get update, or set TPMUX_TEST_KERNEL to a kernel's path`);
  return name;
}

/** Undefined if apt has no list of packages. */
async function newestKernel(): Promise<string | undefined> {
  const { stdout } = await run('apt-cache', ['depends', META_PACKAGE]).catch(() => ({ stdout: '' }));
  return /Depends: (linux-image-\S+)/.exec(stdout)?.[1];
}
