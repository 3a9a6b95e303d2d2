// What the scripts run against: guests of one daemon, or plain swtpm. Every script gets a TPM that nobody used before.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ApiClient } from '../../src/api/client.js';
import { type Running, startServing } from '../cli/command-line.js';
import { startSwtpm } from '../support/swtpm.js';

/** A TPM that is powered on and not started up. */
export interface FreshTpm {
  readonly tcti: string;
  remove(): Promise<void>;
}

export interface Target {
  readonly name: 'tpmux' | 'swtpm';
  fresh(): Promise<FreshTpm>;
  stop(): Promise<void>;
}

/** Plain swtpm, a process per script. */
export const swtpmTarget: Target = {
  name: 'swtpm',
  async fresh() {
    const swtpm = await startSwtpm({ flags: 'not-need-init' });
    return { tcti: swtpm.tcti, remove: () => swtpm.stop() };
  },
  stop: () => Promise.resolve(),
};

/** One daemon with an embedded software TPM as its chip, a guest per script. */
export class TpmuxTarget implements Target {
  readonly name = 'tpmux';
  private count = 0;

  private constructor(
    private readonly daemon: Running,
    private readonly runDir: string,
  ) {}

  /** Starts the daemon with everything it keeps below `root`. */
  static async start(root: string): Promise<TpmuxTarget> {
    const runDir = join(root, 'run');
    await mkdir(root, { recursive: true });
    const daemon = await startServing(['serve', '--embedded-tpm', '--state-dir', join(root, 'state'), '--run-dir', runDir]);
    return new TpmuxTarget(daemon, runDir);
  }

  async fresh(): Promise<FreshTpm> {
    const name = `script${(++this.count).toString()}`;
    const api = new ApiClient(this.runDir);
    await api.ask('createGuest', { body: { name } });
    return {
      tcti: `swtpm:path=${join(this.runDir, 'guests', name, 'tpm.sock')}`,
      remove: async () => {
        await api.ask('removeGuest', { params: { name } });
      },
    };
  }

  /** What the daemon logged so far. */
  log(): string {
    return this.daemon.err();
  }

  async stop(): Promise<void> {
    this.daemon.child.kill('SIGTERM');
    await this.daemon.result;
  }
}
