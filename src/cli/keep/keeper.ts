// The service manager's side of the descriptor store (sd_notify(3), sd_listen_fds(3)), for hosts without systemd.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bindDatagram, closeFd, DescriptorWatch, recvWithFds, sdNotify } from '../../native/index.js';
import { CLAIM_FIELD, RELEASE_FIELD } from '../../transport/kept/descriptor-store.js';
import { splitName, StandIns } from './stand-ins.js';

/** What a keeper is given. */
export interface KeeperOptions {
  /** The daemon: a program, which is looked for anew each time, and its arguments. */
  readonly command: readonly string[];
  readonly log: (line: string) => void;
  /** The daemon serves for the first time. */
  readonly onReady: () => void;
}

/** Most descriptors that are kept; the daemon is told in `FDSTORE`. */
const MAX_DESCRIPTORS = 8192;
const MAX_MESSAGE = 4096;
const FIRST_DELAY_MS = 100;
/** A daemon that served this long is started again at once: a guest's driver waits for no more than two seconds. */
const STEADY_MS = 1000;
const MAX_DELAY_MS = 10_000;
/** How often it is looked whether a machine wants its TPM. */
const LOOK_MS = 100;
/** A daemon that does not end then is killed. */
const END_TIMEOUT_MS = 90_000;
/** The number of a process is known only in it. */
const SHELL = ['-c', 'LISTEN_PID=$$; export LISTEN_PID; exec "$@"', 'tpmux'];

/** Runs a daemon, starts it again when it dies, and keeps its descriptors and answers the machines of its guests meanwhile. */
export class Keeper {
  /** By name, in the order in which they came. */
  private readonly kept = new Map<string, number[]>();
  private child: ChildProcess | undefined;
  private kill: NodeJS.Timeout | undefined;
  private wake: () => void = () => undefined;
  private wanted: 'run' | 'restart' | 'stop' = 'run';
  /** When the daemon that runs said that it serves; whether one ever did. */
  private readySince: number | undefined;
  private everReady = false;
  private readonly standIns: StandIns;

  constructor(private readonly options: KeeperOptions) {
    this.standIns = new StandIns(options.log);
  }

  /** Replaces the daemon with what is on the disk now. */
  restart(): void {
    if (this.wanted !== 'stop') this.end('restart');
  }

  /** Ends the daemon, then {@link run}. */
  stop(): void {
    if (this.wanted === 'stop') this.child?.kill('SIGKILL');
    else this.end('stop');
  }

  /**
   * Resolves with the exit code of the daemon when it has ended and is not to be started again: after {@link stop}, after it ended with code 0 by
   * itself, or if the first one ended before it served. One that was killed counts as 1.
   */
  async run(): Promise<number> {
    const directory = await mkdtemp(join(process.getuid?.() === 0 ? '/run' : tmpdir(), 'tpmux-keep-'));
    const path = join(directory, 'notify');
    const fd = bindDatagram(path);
    const watch = new DescriptorWatch(fd);
    closeFd(fd);
    const listening = this.listen(watch);
    try {
      return await this.supervise(path, watch);
    } finally {
      watch.close();
      await listening;
      this.standIns.leaveAll();
      await this.standIns.left();
      for (const name of [...this.kept.keys()]) this.forget(name);
      await rm(directory, { recursive: true, force: true });
    }
  }

  private async supervise(path: string, watch: DescriptorWatch): Promise<number> {
    let delay = FIRST_DELAY_MS;
    for (;;) {
      const code = await this.runDaemon(path);
      // What it said last.
      this.drain(watch);
      if (this.wanted === 'stop') return code ?? 1;
      if (this.wanted === 'run' && (code === 0 || !this.everReady)) return code ?? 1;
      await this.standIns.left();
      this.standIns.begin(this.kept);
      delay = this.delayAfter(delay);
      this.readySince = undefined;
      if (this.wanted === 'restart' && code === 0) {
        this.wanted = 'run';
        continue;
      }
      this.wanted = 'run';
      this.options.log(
        `the daemon ended (${code === null ? 'killed' : `exit code ${code.toString()}`}); next start in ${delay.toString()} ms at most`,
      );
      await this.pauseUnlessWanted(delay);
      if (this.stopping()) return 0;
      this.wanted = 'run';
    }
  }

  private delayAfter(before: number): number {
    if (this.readySince === undefined) return Math.min(Math.max(before, FIRST_DELAY_MS) * 2, MAX_DELAY_MS);
    return performance.now() - this.readySince < STEADY_MS ? FIRST_DELAY_MS : 0;
  }

  private stopping(): boolean {
    return this.wanted === 'stop';
  }

  /** Its exit code; null if it was killed. */
  private async runDaemon(path: string): Promise<number | null> {
    const fds = [...this.kept.values()].flat();
    const names = [...this.kept].flatMap(([name, same]) => same.map(() => name));
    const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LISTEN_')));
    const passed = fds.length === 0 ? {} : { LISTEN_FDS: fds.length.toString(), LISTEN_FDNAMES: names.join(':') };
    const child = spawn('/bin/sh', [...SHELL, ...this.options.command], {
      // Its standard output says that it is ready, each time.
      stdio: ['inherit', 'ignore', 'inherit', ...fds],
      env: { ...environment, ...passed, NOTIFY_SOCKET: path, FDSTORE: MAX_DESCRIPTORS.toString() },
    });
    this.child = child;
    try {
      return await new Promise((resolve, reject) => {
        child.once('error', reject);
        child.once('exit', resolve);
      });
    } finally {
      this.child = undefined;
      clearTimeout(this.kill);
    }
  }

  private end(wanted: 'restart' | 'stop'): void {
    this.wanted = wanted;
    this.wake();
    const { child } = this;
    if (child === undefined) return;
    child.kill('SIGTERM');
    clearTimeout(this.kill);
    this.kill = setTimeout(() => child.kill('SIGKILL'), END_TIMEOUT_MS);
  }

  /** Ends early when a machine wants what only a daemon can do. */
  private async pauseUnlessWanted(milliseconds: number): Promise<void> {
    const end = performance.now() + milliseconds;
    for (let left = milliseconds; left > 0 && this.wanted === 'run'; left = end - performance.now()) {
      await this.pause(Math.min(left, LOOK_MS));
      if (this.standIns.takeWanted()) return;
    }
  }

  private async pause(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.wake = (): void => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.wake = (): void => undefined;
  }

  private async listen(watch: DescriptorWatch): Promise<void> {
    while (await watch.readable()) this.drain(watch);
  }

  private drain(watch: DescriptorWatch): void {
    for (;;) {
      try {
        const received = recvWithFds(watch.fd, MAX_MESSAGE);
        if (received === null) return;
        this.take(received.data.toString('utf8'), received.fds);
      } catch (error) {
        this.options.log(`a message of the daemon was lost: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }

  private take(message: string, fds: readonly number[]): void {
    const fields = new Map(message.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
    const name = fields.get('FDNAME') ?? 'stored';
    if (fields.get('READY') === '1') this.noteReady();
    if (fields.get('BARRIER') === '1') {
      void this.passBarrier(fds);
      return;
    }
    const claimed = fields.get(CLAIM_FIELD);
    if (claimed !== undefined) this.standIns.leave(claimed);
    const released = fields.get(RELEASE_FIELD);
    if (released !== undefined && this.wanted !== 'stop') this.standIns.begin(this.kept, released);
    if (fields.get('FDSTOREREMOVE') === '1') this.forget(name);
    if (fields.get('FDSTORE') === '1') this.keep(name, fds);
    else fds.forEach(closeFd);
  }

  /** Tells who waits at the other end that all that was said before is done. */
  private async passBarrier(fds: readonly number[]): Promise<void> {
    await this.standIns.left();
    fds.forEach(closeFd);
  }

  private noteReady(): void {
    this.readySince = performance.now();
    if (this.everReady) return;
    this.everReady = true;
    // To whoever keeps the keeper.
    sdNotify('READY=1');
    this.options.onReady();
  }

  private keep(name: string, fds: readonly number[]): void {
    const count = [...this.kept.values()].reduce((sum, same) => sum + same.length, 0);
    if (count + fds.length > MAX_DESCRIPTORS || !/^[\x21-\x39\x3b-\x7e]{1,255}$/.test(name)) {
      this.options.log(`descriptors are not kept: ${name}`);
      fds.forEach(closeFd);
      return;
    }
    this.kept.set(name, [...(this.kept.get(name) ?? []), ...fds]);
  }

  private forget(name: string): void {
    this.standIns.leave(splitName(name)[0]);
    this.kept.get(name)?.forEach(closeFd);
    this.kept.delete(name);
  }
}
