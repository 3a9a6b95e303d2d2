// A disk as a distribution makes it: systemd-boot, which starts a kernel. Firmware measures both into PCR 4.
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DebianSuite, release } from './debian-archive.js';
import { CACHE } from './debian-kernel.js';
import { KERNEL_OPTIONS } from './machine.js';

const PACKAGE = 'systemd-boot-efi';
const PROGRAM = 'usr/lib/systemd/boot/efi/systemd-bootx64.efi';

/** What boots from a disk; paths. */
export interface BootFiles {
  readonly bootLoader: string;
  readonly kernel: string;
  readonly initrd: string;
}

/** Makes the directory of a disk that boots with the OVMF firmware. */
export async function makeBootDisk(directory: string, { bootLoader, kernel, initrd }: BootFiles): Promise<void> {
  await mkdir(join(directory, 'EFI/BOOT'), { recursive: true });
  await mkdir(join(directory, 'loader/entries'), { recursive: true });
  await copyFile(bootLoader, join(directory, 'EFI/BOOT/BOOTX64.EFI'));
  await copyFile(kernel, join(directory, 'vmlinuz'));
  await copyFile(initrd, join(directory, 'initrd.gz'));
  await writeFile(join(directory, 'loader/loader.conf'), 'timeout 0\ndefault linux.conf\n');
  await writeFile(
    join(directory, 'loader/entries/linux.conf'),
    `title Linux\nlinux /vmlinuz\ninitrd /initrd.gz\noptions ${KERNEL_OPTIONS}\n`,
  );
}

/** Path of Debian's systemd-boot, taken out of its package without installing it. */
export async function bootLoader(): Promise<string> {
  const path = join(CACHE, 'systemd-boot.efi');
  if (existsSync(path)) return path;
  await mkdir(CACHE, { recursive: true });
  const suite = await DebianSuite.open(await release());
  const work = await mkdtemp(join(CACHE, 'work-'));
  try {
    await suite.unpack(PACKAGE, work);
    await rename(join(work, PROGRAM), path);
    return path;
  } finally {
    await suite.close();
    await rm(work, { recursive: true, force: true });
  }
}

/** Writes the program as another build of the same source would be: it does the same, and has another digest. */
export async function rebuilt(program: string, target: string): Promise<string> {
  const image = await readFile(program);
  const timeStamp = image.readUInt32LE(0x3c) + 8;
  image.writeUInt32LE((image.readUInt32LE(timeStamp) ^ 0x5a5a5a5a) >>> 0, timeStamp);
  await writeFile(target, image);
  return target;
}
