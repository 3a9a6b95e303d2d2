// A daemon under `tpmux keep`, on a swtpm of its own as the chip, that can be killed and replaced.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTpmux, tpmux, type Running } from '../cli/command-line.js';
import { compiledTpmux } from './compiled.js';
import { startSwtpm, type Swtpm } from './swtpm.js';

const START_TIMEOUT_MS = 60_000;

/** Its keeper, chip and directories. */
export class KeptDaemon {
  private constructor(
    readonly root: string,
    readonly chip: Swtpm,
    private readonly keeper: Running,
  ) {}

  static async start(): Promise<KeptDaemon> {
    const root = await mkdtemp(join(tmpdir(), 'tpmux-kept-'));
    const chip = await startSwtpm();
    const serve = [...compiledTpmux(), 'serve', '--tcti', chip.tcti, '--state-dir', join(root, 'state'), '--run-dir', join(root, 'run')];
    const daemon = new KeptDaemon(root, chip, startTpmux(['keep', '--', ...serve]));
    await daemon.until(() => daemon.keeper.out().includes('ready\n'));
    return daemon;
  }

  get runDir(): string {
    return join(this.root, 'run');
  }

  /** Process of the keeper. */
  get keeperPid(): number {
    return this.keeper.child.pid ?? 0;
  }

  get log(): string {
    return this.keeper.err();
  }

  /** What the keeper wrote to standard output. */
  get out(): string {
    return this.keeper.out();
  }

  /** Path of a guest's data socket; the control socket is the same with `.ctrl`. */
  socket(guest: string): string {
    return join(this.runDir, 'guests', guest, 'tpm.sock');
  }

  async create(guest: string, ...options: string[]): Promise<void> {
    const { code, err } = await tpmux(['guest', 'create', guest, '--run-dir', this.runDir, ...options]);
    assert.equal(code, 0, err);
  }

  /** The daemon that runs now; undefined between two. */
  get pid(): number | undefined {
    const pid = this.keeperPid.toString();
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
    return child === undefined || child === '' ? undefined : Number(child);
  }

  /** Kills the daemon; it is started again. */
  kill(): void {
    const { pid } = this;
    assert.ok(pid !== undefined, 'there is no daemon');
    process.kill(pid, 'SIGKILL');
  }

  /** Kills the daemon, and resolves while there is none that serves. */
  async killed(): Promise<void> {
    const { pid } = this;
    this.kill();
    await this.until(() => this.pid !== pid);
  }

  /** Has the daemon replaced in order. */
  replace(): void {
    process.kill(this.keeperPid, 'SIGHUP');
  }

  /** How many daemons have served. */
  get starts(): number {
    return this.log.split(' ready tcti=').length - 1;
  }

  /** Runs `interrupt`, which ends the daemon, and waits for the next one. */
  async over(interrupt: () => unknown): Promise<void> {
    const { starts } = this;
    await interrupt();
    await this.until(() => this.starts > starts);
  }

  async until(condition: () => boolean): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!condition()) {
      assert.equal(this.keeper.child.exitCode, null, this.log);
      assert.ok(Date.now() < deadline, this.log);
      await sleep(10);
    }
  }

  /** Ends keeper and daemon in order; the keeper's exit code. */
  async end(): Promise<number | null> {
    this.keeper.child.kill('SIGTERM');
    return (await this.keeper.result).code;
  }

  async dispose(): Promise<void> {
    await this.end();
    await this.chip.stop();
    await rm(this.root, { recursive: true, force: true });
  }
}
