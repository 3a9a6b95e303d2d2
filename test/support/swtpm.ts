// A real swtpm for a test: TPM 2.0, powered on, TPM2_Startup(CLEAR) done, its state in a temporary directory.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { waitFor } from './wait-for.js';

/** How {@link startSwtpm} starts it. */
export interface SwtpmOptions {
  /** Listens on 127.0.0.1 (a port for data, the next one for control) instead of UNIX sockets. */
  readonly tcp?: boolean;
  /** swtpm's `--flags`; without `startup-clear` the test sends TPM2_Startup itself. */
  readonly flags?: string;
}

/** Where one of the two servers of a swtpm listens; what net.connect takes. */
export type Endpoint = { readonly path: string } | { readonly host: string; readonly port: number };

const START_ATTEMPTS = 5;
const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 3_000;
const CMD_GET_CAPABILITY = Buffer.from('00000001', 'hex');
const CAPABILITY_BYTES = 8;

const running = new Set<Swtpm>();
process.on('exit', () => {
  for (const swtpm of running) swtpm.abandon();
});

/** One swtpm. Stop it in the test's `after`; what is left is killed when the test process exits. */
export class Swtpm {
  /** Its temporary directory; gone after {@link stop}. */
  readonly directory: string;
  private readonly options: SwtpmOptions;
  private process: ChildProcess | undefined;
  private port = 0;

  private constructor(directory: string, options: SwtpmOptions) {
    this.directory = directory;
    this.options = options;
  }

  static async start(options: SwtpmOptions): Promise<Swtpm> {
    const swtpm = new Swtpm(await mkdtemp(path.join(tmpdir(), 'tpmux-swtpm-')), options);
    running.add(swtpm);
    try {
      await swtpm.launch();
    } catch (error) {
      await swtpm.stop();
      throw error;
    }
    return swtpm;
  }

  /** The TCTI string for it. */
  get tcti(): string {
    return this.options.tcp === true ? `swtpm:host=127.0.0.1,port=${this.port.toString()}` : `swtpm:path=${this.socketPath}`;
  }

  /** Path of the data socket; the control socket is the same with `.ctrl`. Without meaning for TCP. */
  get socketPath(): string {
    return path.join(this.directory, 'tpm.sock');
  }

  /** Where TPM commands go. */
  get data(): Endpoint {
    return this.options.tcp === true ? { host: '127.0.0.1', port: this.port } : { path: this.socketPath };
  }

  /** Where control requests go. */
  get control(): Endpoint {
    return this.options.tcp === true ? { host: '127.0.0.1', port: this.port + 1 } : { path: `${this.socketPath}.ctrl` };
  }

  /** Process id; throws when it does not run. */
  get pid(): number {
    const pid = this.process?.pid;
    if (pid === undefined) throw new Error('swtpm is not running');
    return pid;
  }

  /** Ends it and removes its state. */
  async stop(): Promise<void> {
    await this.end('SIGTERM');
    running.delete(this);
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Kills it as a crash would (SIGKILL); {@link restart} brings it back with what it had written. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  /** Power cycle: ends it if it runs and starts it again, at the same place, with its non-volatile state. */
  async restart(): Promise<void> {
    await this.end('SIGTERM');
    await this.launch();
  }

  /** For the end of the test process, when nothing can be awaited. */
  abandon(): void {
    this.process?.kill('SIGKILL');
    rmSync(this.directory, { recursive: true, force: true });
  }

  private async launch(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      if (this.options.tcp === true && (this.port === 0 || attempt > 1)) this.port = await freePortPair();
      try {
        await this.launchOnce();
        return;
      } catch (error) {
        await this.end('SIGKILL');
        // Only a port can be lost to somebody else between asking and listening.
        if (this.options.tcp !== true || attempt === START_ATTEMPTS) throw error;
      }
    }
  }

  private async launchOnce(): Promise<void> {
    await rm(this.socketPath, { force: true });
    await rm(`${this.socketPath}.ctrl`, { force: true });
    // A test process that is killed takes its TPMs with it.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'swtpm', ...this.arguments()], { stdio: 'ignore' });
    this.process = child;
    let failure: Error | undefined;
    child.once('error', (error) => {
      failure = error;
    });
    const log = (): string => (existsSync(this.logPath) ? readFileSync(this.logPath, 'utf8') : 'no log');
    await waitFor(async () => {
      if (failure !== undefined) throw new Error('swtpm cannot be started (Debian packages swtpm, util-linux)', { cause: failure });
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`swtpm did not come up: ${log()}`);
      return answers(this.control);
    }, log);
  }

  private arguments(): string[] {
    const place = (kind: 'data' | 'control'): string => {
      const endpoint = this[kind];
      return 'path' in endpoint
        ? `type=unixio,path=${endpoint.path}`
        : `type=tcp,bindaddr=${endpoint.host},port=${endpoint.port.toString()}`;
    };
    return [
      ...['socket', '--tpm2', '--server', place('data'), '--ctrl', place('control')],
      ...['--tpmstate', `dir=${this.directory}`, '--flags', this.options.flags ?? 'not-need-init,startup-clear'],
      ...['--seccomp', 'action=none', '--log', `file=${this.logPath},level=1`],
    ];
  }

  private get logPath(): string {
    return path.join(this.directory, 'swtpm.log');
  }

  private async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.process;
    this.process = undefined;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
  }
}

/** Starts a fresh swtpm and resolves when it answers. */
export function startSwtpm(options: SwtpmOptions = {}): Promise<Swtpm> {
  return Swtpm.start(options);
}

/** Whether a control channel is there and served. */
function answers(control: Endpoint): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(control);
    const finish = (result: boolean): void => {
      socket.destroy();
      resolve(result);
    };
    let received = 0;
    socket.setTimeout(START_TIMEOUT_MS, () => {
      finish(false);
    });
    socket.on('connect', () => socket.write(CMD_GET_CAPABILITY));
    socket.on('data', (chunk) => {
      received += chunk.length;
      if (received >= CAPABILITY_BYTES) finish(true);
    });
    socket.on('close', () => {
      finish(false);
    });
    socket.on('error', () => {
      finish(false);
    });
  });
}

async function freePortPair(): Promise<number> {
  for (;;) {
    // Below the range from which the kernel gives ports to outgoing connections.
    const port = 10_000 + 2 * Math.floor(Math.random() * 11_000);
    if ((await isFree(port)) && (await isFree(port + 1))) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => {
      resolve(false);
    });
    server.listen({ host: '127.0.0.1', port }, () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}
