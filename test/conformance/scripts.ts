// The integration scripts of tpm2-tools: finding them, running one of them.
import { spawn } from 'node:child_process';
import { open, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `partial`: passed, but said that it left out what the TPM lacks. */
export type Verdict = 'pass' | 'partial' | 'skip' | 'fail';

export interface Script {
  /** As in the table: `quote`, `fapi/fapi-quote-verify`. */
  readonly name: string;
  readonly path: string;
}

export interface RunOptions {
  readonly source: string;
  /** TCTI string of a fresh TPM that was not started up. */
  readonly tcti: string;
  /** Scratch directory, removed afterwards. */
  readonly scratch: string;
  readonly log: string;
  readonly timeoutSeconds: number;
  /** Ends the script at once when aborted; it then counts as failed. */
  readonly end: AbortSignal;
}

export const REAL_TOOL = '/usr/bin/tpm2';

const WRAPPERS = fileURLToPath(new URL('path', import.meta.url));
const SKIPPED = 77;
// Most scripts end with status 0 when nothing of helpers.sh is there: no ERR trap, no start-up.
const WITHOUT_HELPERS = /helpers\.sh: No such file|\b(?:start_up|shut_down|onerror): command not found/;
const LEFT_OUT = /^SKIP: /m;

/** Where the suite lies below the source. */
export const suiteDirectory = (source: string): string => join(source, 'test', 'integration');

/** All scripts in the order of the table, those for FAPI last. */
export async function listScripts(source: string, fapi: boolean): Promise<Script[]> {
  const list = async (directory: string, prefix: string): Promise<Script[]> => {
    const files = await readdir(join(suiteDirectory(source), directory));
    const names = files.filter((file) => file.endsWith('.sh')).sort();
    return names.map((file) => ({ name: `${prefix}${file.slice(0, -3)}`, path: join(suiteDirectory(source), directory, file) }));
  };
  return [...(await list('tests', '')), ...(fapi ? await list('fapi', 'fapi/') : [])];
}

/** Runs one script, unmodified, against the TPM at `tcti`. */
export async function runScript(script: Script, options: RunOptions): Promise<Verdict> {
  await mkdir(options.scratch, { recursive: true });
  const log = await open(options.log, 'w');
  let status: string;
  try {
    status = await execute(script, options, log.fd);
    await log.appendFile(`*** ${status}\n`);
  } finally {
    await log.close();
    await rm(options.scratch, { recursive: true, force: true });
  }
  const text = await readFile(options.log, 'latin1');
  if (WITHOUT_HELPERS.test(text)) throw new Error(`${script.name} did not get helpers.sh (see ${options.log})`);
  if (status === exitStatus(SKIPPED)) return 'skip';
  if (status !== exitStatus(0)) return 'fail';
  return LEFT_OUT.test(text) ? 'partial' : 'pass';
}

const exitStatus = (code: number): string => `exit status ${code.toString()}`;

function execute(script: Script, options: RunOptions, log: number): Promise<string> {
  return new Promise((resolve, reject) => {
    // A process group of its own, so that a script that hangs goes with its tools. The scripts take $0 for relative.
    const child = spawn('bash', [relative(options.scratch, script.path)], {
      cwd: options.scratch,
      env: environment(options),
      stdio: ['ignore', log, log],
      detached: true,
    });
    const kill = (): void => {
      if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
    };
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      kill();
    }, options.timeoutSeconds * 1000);
    options.end.addEventListener('abort', kill);
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      options.end.removeEventListener('abort', kill);
      if (timedOut) resolve(`killed after ${options.timeoutSeconds.toString()} s`);
      else resolve(code === null ? `killed by ${signal ?? 'a signal'}` : exitStatus(code));
    });
  });
}

/** Nothing of the caller's settings for TPM tools gets through. */
function environment({ source, tcti, scratch }: RunOptions): NodeJS.ProcessEnv {
  const suite = suiteDirectory(source);
  return {
    // `source helpers.sh` is found through PATH.
    PATH: [WRAPPERS, suite, '/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin'].join(':'),
    HOME: scratch,
    TMPDIR: scratch,
    LANG: 'C.UTF-8',
    TERM: 'dumb',
    TSS2_LOG: 'all+warning',
    PYTHON: '/usr/bin/python3',
    srcdir: source,
    abs_srcdir: source,
    abs_builddir: source,
    TPM2_TOOLS_TEST_FIXTURES: join(suite, 'fixtures'),
    TPM2TOOLS_TEST_TCTI: tcti,
    TPM2TOOLS_TEST_PERSISTENT: 'true',
    TPMUX_CONFORMANCE_TPM2: REAL_TOOL,
    TPMUX_CONFORMANCE_LOCK: join(scratch, 'tools.lock'),
  };
}
