// What `tpmux doctor` looks at on a host where no daemon runs, and what does not depend on one.
import { constants } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { reasonOf } from '../failure.js';
import { DEFAULT_HOST_ROOT_HANDLE } from '../hardware/host/keys.js';
import { Hardware } from '../hardware/hardware.js';
import { Tcti } from '../native/index.js';
import { addon } from '../native/addon.js';
import { LockedStore, STORE_FILE } from '../store/locked-store.js';
import { Reader } from '../tpm/wire.js';
import { check, checkChip, type Check } from './chip-checks.js';
import type { Config } from '../config/config.js';
import { storePath } from '../config/paths.js';
import { readHardwareRecord } from './hardware-record.js';

const NODE_MAJOR = 20;
const NODE_MINOR = 19;
const MIB = 1024 * 1024;
const DISK_WARN = 256 * MIB;
const DISK_FAIL = 16 * MIB;

/** Program, addon, directories, disk. */
export async function checkHost(config: Config): Promise<Check[]> {
  return [
    checkNode(process.versions.node),
    checkAddon(),
    await checkDirectory('state directory', config.stateDir, true),
    await checkDirectory('run directory', config.runDir, false),
    await checkDisk(config.stateDir),
  ];
}

/** Store and TPM, which only a running daemon or nobody has open. */
export async function checkWithoutDaemon(config: Config): Promise<Check[]> {
  const { found, hostRootName } = await checkStore(config.stateDir);
  if (config.embeddedTpm) return [found, await checkSwtpm()];
  try {
    const info = await Hardware.probe(config.tcti, { info: () => undefined, warn: () => undefined });
    const handle = config.hostRootHandle ?? DEFAULT_HOST_ROOT_HANDLE;
    return [
      found,
      { name: 'TCTI', result: 'ok', detail: config.tcti, hint: '' },
      ...checkChip(info),
      await checkHandle(config.tcti, handle, hostRootName),
    ];
  } catch (error) {
    const hint = 'check the TCTI string, the permissions of the device, and that no other program has it open';
    return [found, { name: 'TCTI', result: 'fail', detail: `${config.tcti}: ${reasonOf(error)}`, hint }];
  }
}

/** The version must be the oldest that is supported, or later. */
export function checkNode(version: string): Check {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const good = major > NODE_MAJOR || (major === NODE_MAJOR && minor >= NODE_MINOR);
  const oldest = `${NODE_MAJOR.toString()}.${NODE_MINOR.toString()}`;
  return check('Node.js', good, version, { result: 'fail', hint: `install Node.js ${oldest} or later` });
}

function checkAddon(): Check {
  try {
    addon();
    return { name: 'native addon', result: 'ok', detail: 'loaded', hint: '' };
  } catch (error) {
    return { name: 'native addon', result: 'fail', detail: reasonOf(error), hint: 'build it: scripts/setup' };
  }
}

async function checkDirectory(name: string, path: string, secret: boolean): Promise<Check> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) {
    const parent = await nearestDirectory(path);
    const good = await writable(parent);
    return check(name, good, `${path} does not exist yet`, {
      result: 'fail',
      hint: `make it, or give this user write access to ${parent}`,
    });
  }
  if (!found.isDirectory()) return { name, result: 'fail', detail: `${path} is not a directory`, hint: 'remove it' };
  if (!(await writable(path)))
    return { name, result: 'fail', detail: `${path} cannot be written`, hint: 'run as root, or give this user write access' };
  const forbidden = secret ? 0o077 : 0o022;
  const mode = (found.mode & 0o777).toString(8);
  return check(name, (found.mode & forbidden) === 0, `${path}, mode ${mode}`, {
    result: 'warn',
    hint: `chmod ${secret ? '0700' : 'go-w'} ${path}`,
  });
}

function writable(path: string): Promise<boolean> {
  return access(path, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
}

async function nearestDirectory(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    if (at === dirname(at) || (await stat(at).catch(() => undefined)) !== undefined) return at;
  }
}

async function checkDisk(path: string): Promise<Check> {
  const { bavail, bsize } = await statfs(await nearestDirectory(path));
  const free = bavail * bsize;
  const detail = `${Math.floor(free / MIB).toString()} MiB free`;
  return check('disk space', free >= DISK_WARN, detail, {
    result: free < DISK_FAIL ? 'fail' : 'warn',
    hint: `make room on the file system of ${path}`,
  });
}

async function checkStore(stateDir: string): Promise<{ found: Check; hostRootName: string | undefined }> {
  const path = storePath(stateDir);
  if ((await stat(join(path, STORE_FILE)).catch(() => undefined)) === undefined) {
    return { found: { name: 'store', result: 'ok', detail: 'none yet', hint: '' }, hostRootName: undefined };
  }
  try {
    const store = await LockedStore.open(path);
    try {
      const guests = store.guestCount;
      const hostRootName = readHardwareRecord(store)?.hostRootName;
      return { found: { name: 'store', result: 'ok', detail: `${guests.toString()} guests`, hint: '' }, hostRootName };
    } finally {
      await store.close();
    }
  } catch (error) {
    return { found: { name: 'store', result: 'fail', detail: reasonOf(error), hint: 'restore it from a backup' }, hostRootName: undefined };
  }
}

const TPM_RC_HANDLE_1 = 0x18b;

/** Whether the place of the host root is free, or holds the key that the store remembers. */
async function checkHandle(tcti: string, handle: number, recordedName: string | undefined): Promise<Check> {
  const name = `handle 0x${handle.toString(16)}`;
  const connection = await Tcti.open(tcti);
  try {
    const command = Buffer.from('80010000000e0000017300000000', 'hex');
    command.writeUInt32BE(handle, 10);
    const reader = new Reader(await connection.transceive(command, 10_000));
    reader.view(6);
    const code = reader.uint32();
    if (code === TPM_RC_HANDLE_1) {
      return check(name, recordedName === undefined, 'free', {
        result: 'fail',
        detail: 'free, but the store was made with a key there',
        hint: 'put the right state directory and TPM together',
      });
    }
    if (code !== 0) return { name, result: 'warn', detail: `the TPM answered 0x${code.toString(16)}`, hint: 'try again' };
    reader.view(reader.uint16());
    const found = reader.view(reader.uint16()).toString('hex');
    if (recordedName === undefined)
      return {
        name,
        result: 'warn',
        detail: 'holds a key that this state directory does not know',
        hint: 'good if tpmux made it; otherwise configure another host-root-handle',
      };
    return check(name, found === recordedName, 'holds the host root', {
      result: 'fail',
      detail: 'holds another key than the store was made with',
      hint: 'put the right state directory and TPM together',
    });
  } finally {
    await connection.close();
  }
}

async function checkSwtpm(): Promise<Check> {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory, 'swtpm');
    const good = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (good)
      return {
        name: 'embedded TPM',
        result: 'warn',
        detail: `${path}; a software TPM protects nothing`,
        hint: 'use it for trials and tests only',
      };
  }
  return { name: 'embedded TPM', result: 'fail', detail: 'swtpm is not installed', hint: 'install the package swtpm' };
}
