// What the machines run: busybox and tpm2-tools of this host, and a shell on the second serial line.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, mkdtemp, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { createGzip } from 'node:zlib';
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { CACHE } from './debian-kernel.js';

const run = promisify(execFile);
const BUSYBOX = '/bin/busybox';
const TPM2 = '/usr/bin/tpm2';
/** Programs besides busybox's. */
const PROGRAMS = [TPM2];
/** tpm2-tss loads it by name. */
const LOADED_LIBRARIES = ['libtss2-tcti-device.so.0'];
/** Names under which busybox and tpm2 are called. */
const BUSYBOX_NAMES = [
  'sh',
  'mount',
  'mkdir',
  'cat',
  'stty',
  'sleep',
  'ls',
  'dd',
  'reboot',
  'poweroff',
  'sync',
  'head',
  'wc',
  'dmesg',
  'grep',
  'printf',
  'od',
  'rm',
  'sha256sum',
  'uname',
];

const INIT = `#!/bin/sh
mkdir -p /proc /sys /dev /tmp /run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t securityfs securityfs /sys/kernel/security
export PATH=/bin:/usr/bin HOME=/tmp TPM2TOOLS_TCTI=device:/dev/tpm0
cd /tmp
line=/dev/ttyS1
while [ ! -c $line ]; do sleep 0.1; done
# Open all the time: what comes while nobody has it open is lost. Through a pipe: on a terminal the shell would be interactive.
# With dd: cat uses sendfile, which on a tty keeps a line back until the next one comes.
exec 3<>$line
stty raw -echo min 1 time 0 115200 <&3
echo READY >&3
dd bs=4096 <&3 2>/dev/null | sh >&3 2>&1
`;

/** Path of an initramfs, made anew when one of the programs in it is newer. */
export async function initramfs(): Promise<string> {
  const path = join(CACHE, 'initramfs.gz');
  const made = await stat(path).catch(() => undefined);
  const newest = Math.max(
    ...(await Promise.all([BUSYBOX, ...PROGRAMS, import.meta.filename].map(async (file) => (await stat(file)).mtimeMs))),
  );
  if (made !== undefined && made.mtimeMs > newest) return path;
  await mkdir(CACHE, { recursive: true });
  const root = await mkdtemp(join(tmpdir(), 'tpmux-initramfs-'));
  try {
    await fill(root);
    const unfinished = `${path}.${process.pid.toString()}`;
    await pack(root, unfinished);
    await rename(unfinished, path);
    return path;
  } finally {
    await rm(root, { recursive: true });
  }
}

async function fill(root: string): Promise<void> {
  for (const directory of ['bin', 'usr/bin', 'dev', 'proc', 'sys', 'tmp']) await mkdir(join(root, directory), { recursive: true });
  await copyFile(BUSYBOX, join(root, 'bin/busybox'));
  for (const name of BUSYBOX_NAMES) await symlink('busybox', join(root, 'bin', name));
  for (const program of PROGRAMS) await place(root, program);
  for (const library of await librariesOf(PROGRAMS)) await place(root, library);
  await writeFile(join(root, 'init'), INIT);
  await chmod(join(root, 'init'), 0o755);
}

/** All libraries that programs need, those loaded by name included. */
async function librariesOf(programs: readonly string[]): Promise<Set<string>> {
  const { stdout: cache } = await run('/sbin/ldconfig', ['-p']);
  const loaded = LOADED_LIBRARIES.map((name) => new RegExp(`${name.replaceAll('.', '\\.')} .*=> (\\S+)`).exec(cache)?.[1] ?? '');
  const found = new Set<string>(loaded);
  for (const file of [...programs, ...loaded]) {
    const { stdout } = await run('ldd', [file]);
    for (const [, path] of stdout.matchAll(/(?:=> |^\s*)(\/\S+) \(/gm)) found.add(path ?? '');
  }
  return found;
}

async function place(root: string, file: string): Promise<void> {
  const target = join(root, file);
  await mkdir(dirname(target), { recursive: true });
  await copyFile(await realpath(file), target);
}

async function pack(root: string, path: string): Promise<void> {
  const child = spawn('sh', ['-c', 'find . | cpio --quiet -o -H newc -R 0:0'], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  const closed = once(child, 'close');
  await pipeline(child.stdout, createGzip({ level: 1 }), createWriteStream(path));
  const [code] = (await closed) as [number | null];
  if (code !== 0) throw new Error(`cpio ended with ${String(code)}`);
}
