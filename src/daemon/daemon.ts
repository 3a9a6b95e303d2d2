// The daemon's life: everything is opened in order, and closed in the opposite order, also when the start fails half-way.
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { reasonOf } from '../failure.js';
import { peerCredentials, sdNotify } from '../native/index.js';
import { lockDirectory } from '../store/directory-lock.js';
import { HostStore } from '../store/host-store.js';
import { openChip, type ChipRequest, type OpenedChip } from './assemble.js';
import type { Config } from './config.js';
import { ControlApi } from './control-api.js';
import { controlSocketPath, storePath } from './daemon-paths.js';
import { EmbeddedTpm } from './embedded-tpm.js';
import { GuestRegistry } from './guest-registry.js';
import type { Logger } from './logger.js';
import { createMetrics } from './metrics.js';

/** What a daemon is given from outside. */
export interface DaemonSurroundings {
  readonly log: Logger;
  /** Called once everything answers. */
  readonly onReady: () => void;
  /** Aborted when the daemon is to end. */
  readonly end: AbortSignal;
  /** How the chip is opened; default {@link openChip}. */
  readonly openChip?: (request: ChipRequest) => Promise<OpenedChip>;
}

/** Runs a daemon until `end` is aborted. Rejects with a {@link Failure} if it cannot start, or cannot end in order. */
export async function runDaemon(config: Config, surroundings: DaemonSurroundings): Promise<void> {
  const { log } = surroundings;
  const undo: (readonly [string, () => Promise<void>])[] = [];
  let failed: unknown;
  try {
    await start(config, surroundings, (what, close) => undo.push([what, close]));
    await aborted(surroundings.end);
    log.info('shutting down');
    notify('STOPPING=1', log);
  } catch (error) {
    failed = error;
  }
  for (const [what, close] of undo.reverse()) {
    try {
      await close();
    } catch (error) {
      log.error('could not be closed in order', { what, reason: reasonOf(error) });
      failed ??= error;
    }
  }
  if (failed !== undefined) throw failed as Error;
}

async function start(
  config: Config,
  { log, onReady, openChip: open = openChip }: DaemonSurroundings,
  onClose: (what: string, close: () => Promise<void>) => void,
): Promise<void> {
  await mkdir(config.runDir, { recursive: true, mode: 0o700 });
  const lock = await lockDirectory(config.runDir, 'run directory');
  onClose('run directory', () => lock.release());
  await mkdir(config.stateDir, { recursive: true, mode: 0o700 });
  const store = await HostStore.open(storePath(config.stateDir));
  onClose('store', () => store.close());
  const tcti = await openTcti(config, log, onClose);
  const chip = await open({ tcti, config, store, log });
  onClose('TPM', () => chip.close());

  const directory = join(config.runDir, 'guests');
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await chmod(directory, 0o700);
  const { maxConnections, partialFrameTimeout, unreadResponseTimeout, stopTimeout } = config;
  const limits = { maxConnections, partialFrameTimeout, unreadResponseTimeout };
  const guests = new GuestRegistry({ store, factory: chip.factory, log, directory, limits, stopTimeout });
  onClose('guests', () => guests.suspendAll());
  await guests.resumeAll();

  const subject = { guests, chip: chip.view, stateDir: config.stateDir, runDir: config.runDir, started: new Date() };
  const api = await ControlApi.listen({
    path: controlSocketPath(config.runDir),
    subject,
    metrics: createMetrics(guests, chip.view),
    log,
    peerUid: (fd) => peerCredentials(fd).uid,
  });
  onClose('control API', () => api.close());
  log.info('ready', { tcti, guests: guests.list().length, runDir: config.runDir });
  onReady();
  notify('READY=1', log);
}

async function openTcti(config: Config, log: Logger, onClose: (what: string, close: () => Promise<void>) => void): Promise<string> {
  if (!config.embeddedTpm) return config.tcti;
  const embedded = await EmbeddedTpm.start({
    stateDirectory: join(config.stateDir, 'embedded-tpm'),
    runDirectory: join(config.runDir, 'chip'),
    log,
  });
  onClose('embedded TPM', () => embedded.stop());
  return embedded.tcti;
}

/** A service manager that does not listen is no reason to stop. */
function notify(state: string, log: Logger): void {
  try {
    sdNotify(state);
  } catch (error) {
    log.warn('the service manager could not be told', { state, reason: reasonOf(error) });
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => {
      resolve();
    });
  });
}
