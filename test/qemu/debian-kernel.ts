// Debian kernels to boot, taken out of their packages without installing them, and kept from one run to the next.
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import { DebianSuite, release } from './debian-archive.js';

const run = promisify(execFile);
/** Where what the machines boot is kept. */
export const CACHE = fileURLToPath(new URL('../../build/qemu/', import.meta.url));
/** Depends on the newest kernel for virtual machines: TIS, CRB, IMA, ext4 and the event log are built in. */
const META_PACKAGE = 'linux-image-cloud-amd64';

/** Drivers that are kept of a kernel, in the order in which they can be loaded. What a kernel has built in, it has not as a file. */
export const DRIVERS = [
  'virtio',
  'virtio_ring',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'virtio_console',
  'tpm_vtpm_proxy',
] as const;

export interface Kernel {
  readonly image: string;
  /** Directory of its {@link DRIVERS}, as `NAME.ko`; undefined for a kernel that was given without. */
  readonly drivers: string | undefined;
  /** Its configuration; empty for a kernel that was given without. */
  readonly config: string;
}

/** The kernel in the file that an environment variable names. */
function given(variable: string): Kernel | undefined {
  const image = process.env[variable];
  return image === undefined || image === '' ? undefined : { image, drivers: undefined, config: '' };
}

/** The kernel that the machines boot: `TPMUX_TEST_KERNEL`, or the one that was fetched before, or the release's newest. */
export async function debianKernel(): Promise<Kernel> {
  return given('TPMUX_TEST_KERNEL') ?? (await kept('default')) ?? (await fetch('default', await release(), newest));
}

/** In Debian's backports for 12; the last of its kernels that has CONFIG_TCG_TPM2_HMAC. */
const HMAC_SUITE = 'bookworm-backports';
const HMAC_PACKAGE = 'linux-image-6.12.43+deb12-cloud-amd64';

/**
 * A kernel with CONFIG_TCG_TPM2_HMAC: `TPMUX_TEST_HMAC_KERNEL`, or one of Debian's backports. A string says why there is none: the
 * archive does not offer it.
 */
export async function hmacKernel(): Promise<Kernel | string> {
  const found = given('TPMUX_TEST_HMAC_KERNEL') ?? (await kept('hmac'));
  if (found !== undefined) return found;
  try {
    return await fetchKernel('hmac', HMAC_SUITE, HMAC_PACKAGE);
  } catch (error) {
    if (error instanceof NotOffered) return error.message;
    throw error;
  }
}

/**
 * A kernel that has CONFIG_TRUSTED_KEYS built in: `TPMUX_TEST_TRUSTED_KERNEL`. Debian's have it not at all. A string says that there is none.
 */
export function trustedKeyKernel(): Kernel | string {
  return given('TPMUX_TEST_TRUSTED_KERNEL') ?? "TPMUX_TEST_TRUSTED_KERNEL is not set, and Debian's kernels have no CONFIG_TRUSTED_KEYS";
}

/** A kernel of a package of a suite, under a name of one's own for it below {@link CACHE}. Rejects with {@link NotOffered}. */
async function fetchKernel(name: string, suite: string, packageName: string): Promise<Kernel> {
  return (await kept(name)) ?? (await fetch(name, suite, () => Promise.resolve(packageName)));
}

/** The archive does not have the suite or the package. */
class NotOffered extends Error {}

async function newest(suite: DebianSuite): Promise<string> {
  return (await suite.dependency(META_PACKAGE, /^linux-image-/)) ?? META_PACKAGE;
}

async function kept(name: string): Promise<Kernel | undefined> {
  const directory = join(CACHE, name);
  const config = await readFile(join(directory, 'config'), 'utf8').catch(() => undefined);
  return config === undefined ? undefined : { image: join(directory, 'vmlinuz'), drivers: join(directory, 'drivers'), config };
}

async function fetch(name: string, suiteName: string, choose: (suite: DebianSuite) => Promise<string>): Promise<Kernel> {
  const suite = await DebianSuite.open(suiteName).catch((error: unknown) => {
    throw new NotOffered(`Debian's ${suiteName} cannot be had: ${error instanceof Error ? error.message : String(error)}`);
  });
  await mkdir(CACHE, { recursive: true });
  const work = await mkdtemp(join(CACHE, 'work-'));
  try {
    const packageName = await choose(suite);
    if (!(await suite.has(packageName))) throw new NotOffered(`Debian's ${suite.name} has no ${packageName}`);
    const unpacked = join(work, 'unpacked');
    await suite.unpack(packageName, unpacked);
    const ready = join(work, 'ready');
    await keepParts(unpacked, ready);
    // Another run may have been faster.
    await rename(ready, join(CACHE, name)).catch(() => undefined);
  } finally {
    await suite.close();
    await rm(work, { recursive: true, force: true });
  }
  const kernel = await kept(name);
  if (kernel === undefined) throw new Error(`${join(CACHE, name)} has no kernel : remove it`);
  return kernel;
}

async function keepParts(unpacked: string, ready: string): Promise<void> {
  const boot = join(unpacked, 'boot');
  const part = async (prefix: string): Promise<string> =>
    join(boot, (await readdir(boot)).find((entry) => entry.startsWith(prefix)) ?? prefix);
  await mkdir(join(ready, 'drivers'), { recursive: true });
  const { stdout } = await run('find', [join(unpacked, 'lib/modules'), '-name', '*.ko', '-o', '-name', '*.ko.xz']);
  for (const path of stdout.trim().split('\n')) {
    const name = basename(path).replace(/\.ko(\.xz)?$/, '');
    if (!(DRIVERS as readonly string[]).includes(name)) continue;
    const target = join(ready, 'drivers', `${name}.ko`);
    if (path.endsWith('.xz')) await writeFile(target, await unxz(path));
    else await copyFile(path, target);
  }
  await copyFile(await part('vmlinuz-'), join(ready, 'vmlinuz'));
  await copyFile(await part('config-'), join(ready, 'config'));
}

async function unxz(path: string): Promise<Buffer> {
  const { stdout } = await run('/bin/busybox', ['xzcat', path], { encoding: 'buffer', maxBuffer: 1 << 26 });
  return stdout;
}
