// What a machine needs besides the common initramfs to use lines: drivers of the virtio ones, and a relay for the `cmd:` TCTI.
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { CACHE, debianKernel } from './debian-kernel.js';
import { initramfs } from './initramfs.js';

const run = promisify(execFile);
const TCTI_CMD = 'libtss2-tcti-cmd.so.0';
/** In the order in which they are loaded; what a kernel has built in is not there. */
const MODULES = ['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci', 'virtio_console'];

/**
 * Raw bytes between standard input and output and a tty, which is kept open meanwhile: hvc forgets its
 * settings at the last close. The TCTI ends it with SIGTERM, and a reader left behind would take the answers of the next one.
 * Not cat: busybox's uses sendfile, which keeps the pipe locked, and its reader waiting, until the tty has more.
 */
const RELAY = `#!/bin/sh
exec 3<>"$1" 4<&0
stty raw -echo <&3
dd bs=4096 <&3 2>/dev/null & reader=$!
dd bs=4096 <&4 >&3 2>/dev/null & writer=$!
trap 'kill $reader $writer 2>/dev/null' EXIT
trap exit TERM INT HUP
wait $writer
`;

/**
 * In place of the shell of the common initramfs: it uses the TPM on each line and writes to the console, e.g. `hvc: PCR 0x…` and
 * `hvc: done`. PCR 16 is extended with the number of the line.
 */
const init = (lines: readonly GuestLine[]): string => `#!/bin/sh
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
export PATH=/bin:/usr/bin HOME=/tmp LD_LIBRARY_PATH=/usr/lib
cd /tmp
for name in ${MODULES.join(' ')}; do test ! -e /drivers/$name.ko || /bin/busybox insmod /drivers/$name.ko; done
use() {
  tpm2 startup -c && tpm2 pcrextend 16:sha256=$2 && echo "$1: PCR" $(tpm2 pcrread sha256:16) &&
    echo "$1: random" $(tpm2 getrandom --hex 32) &&
    tpm2 createprimary -Q -C o -G ecc -c p.ctx && tpm2 create -Q -C p.ctx -G ecc -u k.pub -r k.priv -c k.ctx &&
    echo message >m && tpm2 sign -Q -c k.ctx -g sha256 -o s m && tpm2 verifysignature -Q -c k.ctx -g sha256 -m m -s s &&
    tpm2 getcap commands | grep -q TPM2_CC_PolicyAuthorizeNV && echo "$1: done" || echo "$1: failed"
}
exec </dev/null >/dev/console 2>&1
while [ ! -c /dev/vport0p2 ]; do sleep 0.2; done
echo lines: ready
sleep 3
${lines.map(({ guest, tcti, digest }) => `TPM2TOOLS_TCTI='${tcti}' use ${guest} ${digest}`).join('\n')}
echo lines: end
while true; do sleep 60; done
`;

/** How a program in the machine reaches the TPM of a guest, and what it extends PCR 16 with. */
export interface GuestLine {
  readonly guest: string;
  readonly tcti: string;
  /** Hexadecimal. */
  readonly digest: string;
}

/** Path of an initramfs that uses these lines, in `directory`. */
export async function serialInitramfs(directory: string, lines: readonly GuestLine[]): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'tpmux-serial-'));
  try {
    await mkdir(join(root, 'drivers'));
    await mkdir(join(root, 'bin'));
    await mkdir(join(root, 'usr/lib'), { recursive: true });
    await writeFile(join(root, 'bin/relay'), RELAY, { mode: 0o755 });
    await writeFile(join(root, 'init'), init(lines), { mode: 0o755 });
    await copyFile(await library(TCTI_CMD), join(root, 'usr/lib', TCTI_CMD));
    const modules = await modulesOf(basename(await debianKernel()).replace(/^vmlinuz-/, ''));
    for (const name of await readdir(modules)) await copyFile(join(modules, name), join(root, 'drivers', name));
    const archive = join(directory, 'serial.cpio');
    await run('sh', ['-c', 'find . | cpio --quiet -o -H newc -R 0:0 > "$1"', 'sh', archive], { cwd: root });
    const whole = join(directory, 'initramfs');
    // The kernel unpacks archives that follow each other.
    await writeFile(whole, Buffer.concat([await readFile(await initramfs()), gzipSync(await readFile(archive), { level: 1 })]));
    return whole;
  } finally {
    await rm(root, { recursive: true });
  }
}

async function library(name: string): Promise<string> {
  const { stdout } = await run('/sbin/ldconfig', ['-p']);
  const path = new RegExp(`${name.replaceAll('.', '\\.')} .*=> (\\S+)`).exec(stdout)?.[1];
  if (path === undefined) throw new Error(`${name} is not installed`);
  return realpath(path);
}

/** Directory with the drivers of a kernel version, from its package; kept from one run to the next. */
async function modulesOf(version: string): Promise<string> {
  const kept = join(CACHE, `drivers-${version}`);
  if (await readdir(kept).catch(() => undefined)) return kept;
  const work = await mkdtemp(join(CACHE, 'work-'));
  try {
    const found = join(work, 'found');
    await mkdir(found);
    // A kernel that is not of a package has its drivers built in, or the test fails where it loads them.
    await run('apt-get', ['-q', 'download', `linux-image-${version}`], { cwd: work });
    const archive = (await readdir(work)).find((entry) => entry.endsWith('.deb')) ?? '';
    await run('dpkg-deb', ['-x', join(work, archive), work]);
    const { stdout } = await run('find', [work, '-name', 'virtio*.ko']);
    for (const path of stdout.split('\n')) {
      if (MODULES.includes(basename(path, '.ko'))) await copyFile(path, join(found, basename(path)));
    }
    await rename(found, kept);
    return kept;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
