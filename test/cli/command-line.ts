// Runs the command line in processes of its own.
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { waitFor } from '../support/wait-for.js';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const ARGUMENTS = ['--import', 'tsx', MAIN];
/** Program and first arguments of `tpmux`. */
export const TPMUX: readonly string[] = [process.execPath, ...ARGUMENTS];

export interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A process of the command line. */
export interface Running {
  readonly child: ChildProcess;
  readonly result: Promise<Result>;
  /** What it wrote to standard output so far. */
  out(): string;
  /** What it wrote to standard error so far. */
  err(): string;
}

/** Starts `tpmux` with these arguments; `environment` replaces what is inherited of TPMUX_*, `program` is run instead of the sources. */
export function startTpmux(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  program: readonly string[] = ARGUMENTS,
): Running {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TPMUX_')));
  const child = spawn(process.execPath, [...program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...inherited, TPMUX_CONFIG: '/dev/null', ...environment },
  });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    out += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    err += chunk;
  });
  const result = new Promise<Result>((resolve) => {
    child.once('close', (code) => {
      resolve({ code, out, err });
    });
  });
  return { child, result, out: () => out, err: () => err };
}

/** Starts `tpmux` as {@link startTpmux} does, and resolves when it serves; rejects with what it wrote when it ends before. */
export async function startServing(...how: Parameters<typeof startTpmux>): Promise<Running> {
  const running = startTpmux(...how);
  await serving(running);
  return running;
}

/** Resolves when `tpmux serve` or `tpmux keep` serves; rejects with what it wrote when it ends before. */
export async function serving(running: Running): Promise<void> {
  const { child } = running;
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  await waitFor(
    () => running.out().includes('ready\n') || hasEnded(),
    () => running.err(),
  );
  if (hasEnded()) throw new Error(`it has ended: ${running.err()}`);
}

/** Runs `tpmux` to its end. */
export function tpmux(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  program?: readonly string[],
): Promise<Result> {
  return startTpmux(args, environment, program).result;
}
