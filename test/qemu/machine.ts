// A virtual machine under QEMU without KVM, and a shell in it.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { copyFile, readFile } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { debianKernel, type Kernel } from './debian-kernel.js';
import { initramfs } from './initramfs.js';

export type Firmware = 'seabios' | 'ovmf';
export type TpmDevice = 'tpm-tis' | 'tpm-crb';

const QEMU = 'qemu-system-x86_64';
const OVMF_CODE = '/usr/share/OVMF/OVMF_CODE_4M.fd';
const OVMF_VARS = '/usr/share/OVMF/OVMF_VARS_4M.fd';

/** What is missing for machines to be run; empty if nothing is. */
export function missingForQemu(): string {
  const programs = [QEMU, 'qemu-img', 'cpio', 'ldd', 'tpm2'].filter((name) => !inPath(name));
  const files = ['/bin/busybox', OVMF_CODE, OVMF_VARS].filter((path) => !existsSync(path));
  return [...programs, ...files].join(', ');
}

function inPath(name: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((directory) => existsSync(join(directory, name)));
}

export interface MachineOptions {
  readonly firmware: Firmware;
  readonly device: TpmDevice;
  /** The guest's control socket. */
  readonly control: string;
  /** A directory of the machine's own. */
  readonly directory: string;
  /** A disk for `savevm`. */
  readonly snapshots?: boolean;
  /** By default {@link debianKernel}. */
  readonly kernel?: Kernel;
  /** Path of an initramfs; by default the common one. */
  readonly initrd?: string;
  /** A directory that is its disk, to boot from in place of {@link kernel}; see boot-disk.ts. */
  readonly bootDisk?: string;
  /** More for the kernel's command line. */
  readonly append?: string;
  /** In MiB. */
  readonly memory?: number;
  /** More arguments of QEMU. */
  readonly extra?: readonly string[];
}

const MEMORY_MIB = 384;
/** What every kernel here is started with. */
export const KERNEL_OPTIONS = 'console=ttyS0 loglevel=4 panic=-1 no_timer_check';

/** A running machine. */
export class Machine {
  private output = '';
  private shell: Socket | undefined;
  private wake: () => void = () => undefined;
  private ready = 0;
  private commands = 0;

  private constructor(
    readonly child: ChildProcess,
    private readonly directory: string,
    private readonly server: Server,
    private readonly errors: () => string,
  ) {}

  /** Starts a machine; it boots meanwhile, see {@link booted}. */
  static async start(options: MachineOptions): Promise<Machine> {
    const { directory } = options;
    const server = createServer();
    server.listen(join(directory, 'shell'));
    await once(server, 'listening');
    const child = spawn(QEMU, await qemuArguments(options), { stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    const machine = new Machine(child, directory, server, () => errors);
    server.on('connection', (socket) => {
      machine.listenTo(socket);
    });
    child.once('close', () => {
      server.close();
      machine.wake();
    });
    return machine;
  }

  /** Resolves when the shell in the machine is there (again: after a reset it comes once more). */
  async booted(): Promise<void> {
    const seen = this.ready;
    await this.until(() => this.ready > seen || (seen === 0 && this.ready > 0), 180, 'the shell');
  }

  /** Runs a line of shell in the machine; what it writes. Rejects if its exit code is not 0, or it takes longer than this many seconds. */
  async run(line: string, seconds = 120): Promise<string> {
    const mark = `done-${(++this.commands).toString()}`;
    this.output = '';
    this.send(`{ ${line}\n} 2>&1; echo "${mark}:$?"`);
    const end = new RegExp(`${mark}:(\\d+)\\r?\\n`);
    await this.until(() => end.test(this.output), seconds, `the end of: ${line}`);
    const [whole, code] = end.exec(this.output) ?? [];
    const text = this.output.slice(0, this.output.indexOf(whole ?? '')).replaceAll('\r', '');
    if (code !== '0') throw new Error(`in the machine: ${line}\nended with ${code ?? '?'}:\n${text}`);
    return text.trim();
  }

  /** Sends a line to the shell without waiting. */
  send(line: string): void {
    this.shell?.write(`${line}\n`);
  }

  /** Resolves when the shell has written this since the last {@link run}. */
  async says(text: RegExp, seconds: number): Promise<void> {
    await this.until(() => text.test(this.output), seconds, String(text));
  }

  /** A command of QEMU's human monitor, e.g. `savevm a`; what it writes. */
  async monitor(command: string): Promise<string> {
    const path = join(this.directory, 'monitor');
    await this.until(() => existsSync(path), 10, "QEMU's monitor");
    const socket = connect(path);
    let text = '';
    socket.on('error', () => undefined);
    socket.setEncoding('utf8').on('data', (data: string) => {
      text += data;
      this.wake();
    });
    try {
      await this.until(() => text.includes('(qemu)'), 10, "QEMU's monitor");
      text = '';
      socket.write(`${command}\n`);
      await this.until(() => text.includes('(qemu)'), 60, `the monitor's ${command}`);
      // Echo first, with what the line editor draws.
      return text.slice(text.indexOf('\n') + 1, text.lastIndexOf('(qemu)')).trim();
    } finally {
      socket.destroy();
    }
  }

  /** What kernel and firmware wrote to the first serial line. */
  async console(): Promise<string> {
    return readFile(join(this.directory, 'console'), 'latin1').catch(() => '');
  }

  /** Resolves when QEMU has ended. */
  async ended(seconds = 60): Promise<void> {
    await this.until(() => this.hasEnded, seconds, 'the end of QEMU', true);
  }

  /** Kills QEMU as a crash would. */
  async kill(): Promise<void> {
    if (this.hasEnded) return;
    this.child.kill('SIGKILL');
    await this.ended();
  }

  private get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  private listenTo(socket: Socket): void {
    this.shell = socket;
    socket.on('error', () => undefined);
    socket.setEncoding('latin1').on('data', (text: string) => {
      this.output += text;
      for (const line of this.output.split('\n')) if (/^READY\r?$/.test(line)) this.ready++;
      this.output = this.output.replaceAll(/^READY\r?\n/gm, '');
      this.wake();
    });
  }

  private async until(condition: () => boolean, seconds: number, what: string, mayEnd = false): Promise<void> {
    const deadline = Date.now() + seconds * 1000;
    while (!condition()) {
      if (!mayEnd && this.hasEnded) throw new Error(`QEMU has ended: ${this.errors()}`);
      if (Date.now() > deadline) {
        const console = await this.console();
        throw new Error(
          `not in ${seconds.toString()} s: ${what}\nConsole:\n${console.slice(-3000)}\nShell:\n${this.output}\nQEMU: ${this.errors()}`,
        );
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 100);
        this.wake = (): void => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

async function qemuArguments(options: MachineOptions): Promise<string[]> {
  const { firmware, device, control, directory, snapshots, memory = MEMORY_MIB, extra = [] } = options;
  const disk = join(directory, 'disk.qcow2');
  if (snapshots === true && !existsSync(disk)) execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '16M']);
  const line = (id: string, path: string): string[] => ['-chardev', `socket,id=${id},path=${join(directory, path)}`];
  return [
    ...['-machine', 'q35,accel=tcg', '-cpu', 'max', '-m', memory.toString(), '-nodefaults', '-display', 'none', '-no-user-config'],
    ...(options.bootDisk === undefined ? await direct(options) : fromDisk(options.bootDisk)),
    ...(firmware === 'ovmf' ? await pflash(directory) : []),
    ...['-serial', `file:${join(directory, 'console')}`, ...line('shell', 'shell'), '-serial', 'chardev:shell'],
    ...['-chardev', `socket,id=monitor,path=${join(directory, 'monitor')},server=on,wait=off`, '-mon', 'chardev=monitor'],
    ...(snapshots === true ? ['-drive', `file=${disk},format=qcow2,if=none,id=disk`] : []),
    ...['-chardev', `socket,id=tpmux,path=${control}`, '-tpmdev', 'emulator,id=tpm0,chardev=tpmux', '-device', `${device},tpmdev=tpm0`],
    ...extra,
  ];
}

/** Kernel and initramfs are given to the firmware. */
async function direct({ kernel, initrd, append = '' }: MachineOptions): Promise<string[]> {
  const { image } = kernel ?? (await debianKernel());
  return ['-kernel', image, '-initrd', initrd ?? (await initramfs()), '-append', `${KERNEL_OPTIONS} ${append}`];
}

/** QEMU makes a FAT file system of the directory. */
function fromDisk(directory: string): string[] {
  return ['-drive', `file=fat:rw:${directory},format=raw,if=none,id=boot`, '-device', 'virtio-blk-pci,drive=boot,bootindex=0'];
}

async function pflash(directory: string): Promise<string[]> {
  const variables = join(directory, 'variables.fd');
  if (!existsSync(variables)) await copyFile(OVMF_VARS, variables);
  return [...['-drive', `if=pflash,format=raw,readonly=on,file=${OVMF_CODE}`], ...['-drive', `if=pflash,format=raw,file=${variables}`]];
}
