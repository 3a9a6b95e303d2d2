// A daemon with an embedded software TPM, in this process, for tests of what it serves.
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AuditEntry } from '../../src/host/audit-log.js';
import type { Check } from '../../src/host/chip-checks.js';
import { EmbeddedTpm } from '../../src/host/embedded-tpm.js';
import { readHostSecret } from '../../src/host/host-secret.js';
import { openChip } from '../../src/host/open-chip.js';
import { loadConfig, type Config } from '../../src/config/config.js';
import { storePath } from '../../src/config/paths.js';
import { runDaemon } from '../../src/daemon/daemon.js';
import type { GuestView } from '../../src/guests/view.js';
import type { Logger } from '../../src/logger.js';
import type { FailureParts } from '../../src/failure.js';
import type { CommandCounter } from '../../src/hardware/chip/usage.js';
import type { HostStore } from '../../src/store/host-store.js';
import { LockedStore } from '../../src/store/locked-store.js';

/** What answers hold: each its part of this. */
interface AnswerBody extends GuestView {
  readonly guests: readonly GuestView[];
  readonly banks: Readonly<Record<string, readonly string[]>>;
  readonly commands: readonly CommandCounter[];
  readonly checks: readonly Check[];
  readonly entries?: readonly AuditEntry[];
  readonly error: FailureParts;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
  readonly body: AnswerBody;
}

export class RunningDaemon {
  /** Lines that were logged. */
  readonly log: string[] = [];
  private end = new AbortController();
  private ended: Promise<void> = Promise.resolve();

  private constructor(
    readonly root: string,
    public config: Config,
  ) {}

  /** @param overrides settings that differ from the defaults, e.g. a TCTI instead of the embedded TPM */
  static async create(overrides: Partial<Config> = {}): Promise<RunningDaemon> {
    const root = await mkdtemp(join(tmpdir(), 'tpmux-daemon-'));
    const flags = { config: '/dev/null', embeddedTpm: true, stateDir: join(root, 'state'), runDir: join(root, 'run') };
    return new RunningDaemon(root, { ...(await loadConfig(flags, {})), ...overrides });
  }

  async start(): Promise<void> {
    this.end = new AbortController();
    await new Promise<void>((resolve, reject) => {
      this.ended = runDaemon(this.config, { log: this.logger, onReady: resolve, end: this.end.signal });
      this.ended.catch(reject);
    });
  }

  async stop(): Promise<void> {
    this.end.abort();
    await this.ended;
  }

  async dispose(): Promise<void> {
    await this.stop().catch(() => undefined);
    await rm(this.root, { recursive: true, force: true });
  }

  ask(method: string, path: string, body?: unknown): Promise<Answer> {
    return this.askRaw(method, path, body === undefined ? undefined : JSON.stringify(body));
  }

  askRaw(method: string, path: string, content?: string): Promise<Answer> {
    const socketPath = join(this.config.runDir, 'control.sock');
    return new Promise((resolve, reject) => {
      const outgoing = request({ socketPath, method, path, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => {
          const isJson = response.headers['content-type'] === 'application/json';
          resolve({ status: response.statusCode ?? 0, text, body: JSON.parse(isJson ? text : 'null') as AnswerBody });
        });
      });
      outgoing.on('error', reject);
      outgoing.end(content);
    });
  }

  /** Uses the store of a daemon that has ended, with the secret of its embedded TPM. */
  async withStore(use: (store: HostStore) => Promise<void>): Promise<void> {
    const { config, logger: log } = this;
    const { stateDir, runDir } = config;
    const tpm = await EmbeddedTpm.start({ stateDirectory: join(stateDir, 'embedded-tpm'), runDirectory: join(runDir, 'chip'), log });
    const locked = await LockedStore.open(storePath(stateDir));
    try {
      const hardware = await openChip({ tcti: tpm.tcti, config, store: locked, ownerAuth: Buffer.alloc(0), log });
      await use(await locked.unlock(await readHostSecret(hardware, locked)));
      await hardware.close();
    } finally {
      await locked.close();
      await tpm.stop();
    }
  }

  private get logger(): Logger {
    const write = (level: string) =>
      ((message: string, fields?: object) => {
        this.log.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`);
      }) as unknown as Logger['info'];
    return { error: write('error'), warn: write('warn'), info: write('info'), debug: write('debug') };
  }
}
