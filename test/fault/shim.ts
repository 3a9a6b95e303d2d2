// Builds the shim that lets writes fail, and controls it.
import { execFile } from 'node:child_process';
import { closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const SOURCE = fileURLToPath(new URL('./fail-files.c', import.meta.url));
const WORDS = { calls: 0, failAt: 1, error: 2, sticky: 3, failed: 4 } as const;

/** Compiles the shim into `directory` with the system's compiler and gives its path. */
export async function buildShim(directory: string): Promise<string> {
  const shim = join(directory, 'fail-files.so');
  await promisify(execFile)('cc', ['-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-o', shim, SOURCE, '-ldl']);
  return shim;
}

/** What a process needs for its writes below `directory` (a real path) to fail as `control` says. */
export function faultEnvironment(shim: string, directory: string, control: string): Record<string, string> {
  return { LD_PRELOAD: shim, TPMUX_FAULT_DIRECTORY: directory, TPMUX_FAULT_CONTROL: control };
}

/** The file by which faults are ordered; from the test, or from the process itself. */
export class FaultControl {
  private constructor(private readonly fd: number) {}

  /** Makes the file; this comes before the process with the shim. */
  static create(path: string): FaultControl {
    writeFileSync(path, Buffer.alloc(64));
    return new FaultControl(openSync(path, 'r+'));
  }

  static open(path: string): FaultControl {
    return new FaultControl(openSync(path, 'r+'));
  }

  /** The `nth` call from now on fails with `error` (an errno), and with `sticky` all after it too, until {@link disarm}. */
  arm(nth: number, error: number, sticky = false): void {
    this.write('failAt', 0);
    this.write('error', error);
    this.write('sticky', sticky ? 1 : 0);
    this.write('failed', 0);
    this.write('failAt', this.read('calls') + nth);
  }

  disarm(): void {
    this.write('failAt', 0);
  }

  /** Calls that failed since {@link arm}. */
  get failed(): number {
    return this.read('failed');
  }

  close(): void {
    closeSync(this.fd);
  }

  private read(word: keyof typeof WORDS): number {
    const bytes = Buffer.alloc(4);
    readSync(this.fd, bytes, 0, 4, WORDS[word] * 4);
    return new Uint32Array(bytes.buffer, bytes.byteOffset, 1)[0] ?? 0;
  }

  private write(word: keyof typeof WORDS, value: number): void {
    writeSync(this.fd, new Uint8Array(Uint32Array.of(value).buffer), 0, 4, WORDS[word] * 4);
  }
}
