// What the machines run: busybox and tpm2-tools of this host, and a shell on the second serial line.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { createGzip } from 'node:zlib';
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { CACHE, DRIVERS, type Kernel } from './debian-kernel.js';

const run = promisify(execFile);
const BUSYBOX = '/bin/busybox';
const TPM2 = '/usr/bin/tpm2';
/** tpm2-tss loads them by name. */
const LOADED_LIBRARIES = ['libtss2-tcti-device.so.0', 'libtss2-tcti-cmd.so.0'];

/**
 * Loads the drivers that are there, and gives a shell. `READY` says that it is there. The names of busybox's programs are made here: those
 * that are not files, so that an archive that follows may bring its own.
 */
const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /sbin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/sbin:/usr/sbin HOME=/tmp TPM2TOOLS_TCTI=device:/dev/tpm0
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t securityfs securityfs /sys/kernel/security
for name in ${DRIVERS.filter((name) => name.startsWith('virtio')).join(' ')}; do test ! -e /drivers/$name.ko || insmod /drivers/$name.ko; done
cd /tmp
line=/dev/ttyS1
while [ ! -c $line ]; do sleep 0.1; done
# Open all the time: what comes while nobody has it open is lost. Through a pipe: on a terminal the shell would be interactive.
# With dd: busybox's cat uses sendfile, which waits for more than the line that has come before it gives that on.
exec 3<>$line
stty raw -echo min 1 time 0 115200 <&3
echo READY >&3
dd bs=4096 <&3 2>/dev/null | sh >&3 2>&1
`;

/** Path of the common initramfs, made anew when one of the programs in it is newer. */
export async function initramfs(): Promise<string> {
  const path = join(CACHE, 'initramfs.gz');
  const made = await stat(path).catch(() => undefined);
  const newest = Math.max(...(await Promise.all([BUSYBOX, TPM2, import.meta.filename].map(async (file) => (await stat(file)).mtimeMs))));
  if (made !== undefined && made.mtimeMs > newest) return path;
  await mkdir(CACHE, { recursive: true });
  const unfinished = `${path}.${process.pid.toString()}`;
  await archive(unfinished, async (root) => {
    for (const directory of ['bin', 'usr/bin', 'dev', 'proc', 'sys', 'tmp']) await mkdir(join(root, directory), { recursive: true });
    await copyFile(BUSYBOX, join(root, 'bin/busybox'));
    await symlink('busybox', join(root, 'bin/sh'));
    await placeProgram(root, TPM2, LOADED_LIBRARIES);
    await writeFile(join(root, 'init'), INIT, { mode: 0o755 });
  });
  await rename(unfinished, path);
  return path;
}

/**
 * Makes, at `path`, the common initramfs with what `fill` puts into a directory besides: the kernel unpacks archives that follow each other,
 * and the later one wins.
 */
export async function initramfsWith(path: string, fill: (root: string) => Promise<void>): Promise<string> {
  const addition = `${path}.addition`;
  await archive(addition, fill);
  await writeFile(path, Buffer.concat([await readFile(await initramfs()), await readFile(addition)]));
  await rm(addition);
  return path;
}

/** Puts drivers of `kernel` where the common initramfs finds them; what the kernel has built in is passed over. */
export async function placeDrivers(root: string, kernel: Kernel): Promise<void> {
  await mkdir(join(root, 'drivers'), { recursive: true });
  for (const name of DRIVERS) {
    const file = `${name}.ko`;
    if (kernel.drivers !== undefined) await copyFile(join(kernel.drivers, file), join(root, 'drivers', file)).catch(() => undefined);
  }
}

/** Puts a program with its libraries, and libraries that it loads by name, where they are on this host. */
export async function placeProgram(root: string, program: string, loaded: readonly string[] = []): Promise<void> {
  const libraries = await Promise.all(loaded.map(pathOfLibrary));
  const files = new Set([program, ...libraries]);
  for (const file of [program, ...libraries]) {
    const { stdout } = await run('ldd', [file]);
    for (const [, path] of stdout.matchAll(/(?:=> |^\s*)(\/\S+) \(/gm)) files.add(path ?? '');
  }
  for (const file of files) await place(root, file);
}

/** Puts a file where it is on this host. */
async function place(root: string, file: string): Promise<void> {
  const target = join(root, file);
  await mkdir(dirname(target), { recursive: true });
  await copyFile(await realpath(file), target);
}

async function pathOfLibrary(name: string): Promise<string> {
  const { stdout } = await run('/sbin/ldconfig', ['-p']);
  const path = new RegExp(`${name.replaceAll('.', '\\.')} .*=> (\\S+)`).exec(stdout)?.[1];
  if (path === undefined) throw new Error(`${name} is not installed (scripts/setup installs what is needed)`);
  return path;
}

/** A compressed archive of what `fill` makes. */
async function archive(path: string, fill: (root: string) => Promise<void>): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'tpmux-initramfs-'));
  try {
    await fill(root);
    const child = spawn('sh', ['-c', 'find . | cpio --quiet -o -H newc -R 0:0'], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
    const closed = once(child, 'close');
    await pipeline(child.stdout, createGzip({ level: 1 }), createWriteStream(path));
    const [code] = (await closed) as [number | null];
    if (code !== 0) throw new Error(`cpio ended with ${String(code)}`);
  } finally {
    await rm(root, { recursive: true });
  }
}
