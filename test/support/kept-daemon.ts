// A daemon under `tpmux keep`, on a swtpm of its own as the chip, that can be killed and replaced.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serving, startTpmux, tpmux, type Running } from '../cli/command-line.js';
import { TPM_CC } from '../../src/tpm/constants/index.js';
import { compiledTpmux } from '../cli/compiled.js';
import { commandCode, startRelay, type Relay } from './relay.js';
import { startSwtpm, type Swtpm } from './swtpm.js';
import { waitFor } from './wait-for.js';

/** While there is a file of this name, no daemon starts. */
const AWAY = 'away';

/** Its keeper, chip and directories. */
export class KeptDaemon {
  private constructor(
    readonly root: string,
    private readonly chip: Swtpm,
    /** In front of the chip. */
    readonly relay: Relay,
    /** Whether the chip's answers to TPM2_Create stay at the relay. */
    readonly holds: { create: boolean },
    private readonly keeper: Running,
  ) {}

  static async start(): Promise<KeptDaemon> {
    const root = await mkdtemp(join(tmpdir(), 'tpmux-kept-'));
    const chip = await startSwtpm();
    const holds = { create: false };
    const relay = await startRelay(chip, {
      delay: (command) => (holds.create && commandCode(command) === TPM_CC.Create ? Infinity : 0),
    });
    const gate = ['sh', '-c', 'test -e "$0" && exit 1; exec "$@"', join(root, AWAY)];
    const serve = [
      ...gate,
      ...compiledTpmux(),
      'serve',
      '--tcti',
      relay.tcti,
      '--state-dir',
      join(root, 'state'),
      '--run-dir',
      join(root, 'run'),
    ];
    const daemon = new KeptDaemon(root, chip, relay, holds, startTpmux(['keep', '--', ...serve]));
    await serving(daemon.keeper);
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

  /** Kills the daemon, and resolves when it is gone; no other starts. */
  async away(): Promise<void> {
    await writeFile(join(this.root, AWAY), '');
    const ends = (): number => this.log.split('the daemon ended').length;
    const before = ends();
    this.kill();
    await this.until(() => ends() > before);
  }

  /** Ends {@link away}, if that was, and resolves when the next daemon serves. */
  async back(): Promise<void> {
    if (!existsSync(join(this.root, AWAY))) return;
    await this.over(() => rm(join(this.root, AWAY)));
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
    await waitFor(
      () => {
        assert.equal(this.keeper.child.exitCode, null, this.log);
        return condition();
      },
      () => this.log,
    );
  }

  /** Ends keeper and daemon in order; the keeper's exit code. */
  async end(): Promise<number | null> {
    this.keeper.child.kill('SIGTERM');
    return (await this.keeper.result).code;
  }

  async dispose(): Promise<void> {
    await this.end();
    await this.relay.stop();
    await this.chip.stop();
    await rm(this.root, { recursive: true, force: true });
  }
}
