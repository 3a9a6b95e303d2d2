// A software TPM in place of a chip: a swtpm process of our own, started, watched and ended.
import { spawn, type ChildProcess } from 'node:child_process';
import { chmod, mkdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, Failure, reasonOf, systemCode } from '../failure.js';
import { prepareUnixPath } from '../transport/listener.js';
import { endLeftover, writePidFile } from './leftover-process.js';
import type { Logger } from '../logger.js';

const START_TIMEOUT_MS = 10_000;
const POLL_MS = 20;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 10_000;
/** After running this long a process has started well, and the next failure is a new one. */
const SETTLED_MS = 60_000;
const STOP_GRACE_MS = 3_000;

/** Where the software TPM lives. */
export interface EmbeddedTpmOptions {
  /** Its non-volatile memory; made with mode 0700. */
  readonly stateDirectory: string;
  /** Its sockets; made with mode 0700. */
  readonly runDirectory: string;
  readonly log: Logger;
  /** The program; default `swtpm`. */
  readonly program?: string;
}

/** A swtpm that is started again whenever it ends. */
export class EmbeddedTpm {
  private child: ChildProcess | undefined;
  private stopping = false;
  private backoff = FIRST_BACKOFF_MS;
  private readonly interrupt = new AbortController();
  private watching: Promise<void> = Promise.resolve();

  private constructor(private readonly options: EmbeddedTpmOptions) {}

  /** Ends what a killed daemon left on the same state, then starts. Rejects with a {@link Failure}. */
  static async start(options: EmbeddedTpmOptions): Promise<EmbeddedTpm> {
    for (const directory of [options.stateDirectory, options.runDirectory]) {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      await chmod(directory, 0o700);
    }
    const tpm = new EmbeddedTpm(options);
    const leftover = await endLeftover(tpm.pidFile, tpm.marks);
    if (leftover !== undefined) options.log.warn('ended the software TPM that a killed daemon left', { pid: leftover });
    await tpm.launch();
    options.log.warn(
      'EMBEDDED SOFTWARE TPM: this is NOT a hardware TPM. Keys are files below the state directory; use it for trials and tests only.',
    );
    return tpm;
  }

  /** TCTI string that leads to it. */
  get tcti(): string {
    return `swtpm:path=${this.socket}`;
  }

  /** Process id, while one runs. */
  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Ends the process. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.interrupt.abort();
    const { child } = this;
    child?.kill('SIGTERM');
    const kill = setTimeout(() => child?.kill('SIGKILL'), STOP_GRACE_MS);
    for (let watched: Promise<void> | undefined; watched !== this.watching;) {
      watched = this.watching;
      await watched;
    }
    clearTimeout(kill);
    await endLeftover(this.pidFile, this.marks);
  }

  private get socket(): string {
    return join(this.options.runDirectory, 'tpm.sock');
  }

  private get pidFile(): string {
    return join(this.options.stateDirectory, 'swtpm.pid');
  }

  /** The arguments by which a process is known to be this TPM's. */
  private get marks(): readonly string[] {
    return ['--tpmstate', `dir=${this.options.stateDirectory}`];
  }

  private async launch(): Promise<void> {
    const control = `${this.socket}.ctrl`;
    await prepareUnixPath(this.socket);
    await prepareUnixPath(control);
    const args = ['socket', '--tpm2', ...this.marks, '--server', `type=unixio,path=${this.socket},mode=0600`];
    args.push('--ctrl', `type=unixio,path=${control},mode=0600`, '--flags', 'not-need-init,startup-clear');
    // swtpm's own filter kills it where the C library uses a newer system call than it knows.
    args.push('--seccomp', 'action=none');
    const began = Date.now();
    const child = spawn(this.options.program ?? 'swtpm', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      text = (text + chunk).slice(-500);
    });
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => {
        resolve(systemCode(error) === 'ENOENT' ? 'swtpm is not installed' : error.message);
      });
      child.once('close', (status, signal) => {
        const how = signal === null ? `it ended with status ${String(status)}` : `it was ended by ${signal}`;
        resolve(text.trim() === '' ? how : `${how}: ${text.trim()}`);
      });
    });
    this.child = child;
    // The end may have been asked for while there was no child to end.
    if (this.stopping) child.kill('SIGTERM');
    if (child.pid !== undefined) await writePidFile(this.pidFile, child.pid);
    const ready = new AbortController();
    const failure = await Promise.race([ended, this.waitUntilReady(ready.signal)]);
    ready.abort();
    if (failure !== undefined) {
      child.kill('SIGKILL');
      throw startFailure(failure);
    }
    this.watching = ended.then((reason) => this.restart(reason, began));
  }

  /** Resolves with undefined when the TPM accepts connections, or with why it does not. */
  private async waitUntilReady(signal: AbortSignal): Promise<string | undefined> {
    const end = Date.now() + START_TIMEOUT_MS;
    while (Date.now() < end && !signal.aborted) {
      if ((await accepts(`${this.socket}.ctrl`)) && (await accepts(this.socket))) return undefined;
      await sleep(POLL_MS);
    }
    return `it did not listen within ${(START_TIMEOUT_MS / 1000).toString()} seconds`;
  }

  private async restart(reason: string, began: number): Promise<void> {
    this.child = undefined;
    if (Date.now() - began > SETTLED_MS) this.backoff = FIRST_BACKOFF_MS;
    let why = reason;
    while (!this.stopping) {
      this.options.log.error('the software TPM ended; starting it again', { reason: why, milliseconds: this.backoff });
      await sleep(this.backoff, undefined, { signal: this.interrupt.signal }).catch(() => undefined);
      this.backoff = Math.min(this.backoff * 2, MAX_BACKOFF_MS);
      if (this.interrupt.signal.aborted) return;
      try {
        await this.launch();
        return;
      } catch (error) {
        why = reasonOf(error);
      }
    }
  }
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}

function startFailure(why: string): Failure {
  return new Failure({
    code: 'embedded_tpm',
    what: 'starting the embedded software TPM',
    why,
    hint: 'install the package swtpm, or name a TPM with --tcti',
    exit: EXIT.unreachable,
  });
}
