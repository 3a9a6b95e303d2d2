// The daemon's life: everything is opened in order, and closed in the opposite order, also when the start fails half-way.
import type { Config } from '../config/config.js';
import { controlSocketPath, damagedPath } from '../config/paths.js';
import { reasonOf } from '../failure.js';
import { GuestBackups } from '../guests/backups/backups.js';
import type { GuestRegistry } from '../guests/registry.js';
import type { Logger } from '../logger.js';
import { peerCredentials, sdNotify } from '../native/index.js';
import { DescriptorStore } from '../transport/kept/descriptor-store.js';
import { ControlApi } from './api/server.js';
import { createMetrics } from './metrics.js';
import { openGuests } from './open-guests.js';
import { openHost, type OpenedHost } from './open-host.js';
import { Resources } from './resources.js';

/** What a daemon is given from outside. */
export interface DaemonSurroundings {
  readonly log: Logger;
  /** Called once everything answers. */
  readonly onReady: () => void;
  /** Takes what reads the policy classes again, to be called when somebody wants that. */
  readonly onReload?: ((reload: () => void) => void) | undefined;
  /** Aborted when the daemon is to end. */
  readonly end: AbortSignal;
  /** Where a service manager says how it is told things and what it kept (sd_notify(3), sd_listen_fds(3)); nobody by default. */
  readonly environment?: NodeJS.ProcessEnv;
}

/** Runs a daemon until `end` is aborted. Rejects with a {@link Failure} if it cannot start, or cannot end in order. */
export async function runDaemon(config: Config, surroundings: DaemonSurroundings): Promise<void> {
  const { log } = surroundings;
  const resources = new Resources(log);
  let failed: unknown;
  try {
    await start(config, surroundings, resources);
    await aborted(surroundings.end);
    log.info('shutting down');
    notify('STOPPING=1', log);
  } catch (error) {
    failed = error;
  }
  const unclosed = await resources.close();
  failed ??= unclosed;
  if (failed !== undefined) throw failed as Error;
}

async function start(config: Config, surroundings: DaemonSurroundings, resources: Resources): Promise<void> {
  const { log, onReady, onReload, environment = {} } = surroundings;
  const descriptors = inheritDescriptors(environment, log);
  const host = await openHost(config, log, resources);
  const guests = await openGuests({ config, log, host, descriptors }, resources);
  onReload?.(() => {
    guests.reloadPolicies().catch((error: unknown) => {
      log.error('policy classes could not be read again', { reason: reasonOf(error) });
    });
  });
  await serveApi(config, log, host, guests, resources);
  log.info('ready', { tcti: host.chip.tcti, guests: guests.list().length, runDir: config.runDir });
  onReady();
  notify('READY=1', log);
}

async function serveApi(config: Config, log: Logger, host: OpenedHost, guests: GuestRegistry, resources: Resources): Promise<void> {
  const { store, factory, policies, audit, chip, properties } = host;
  const { stateDir, runDir } = config;
  const backups = new GuestBackups({ guests, store, factory, policies, audit, damagedDirectory: damagedPath(stateDir) });
  const storeFailure = (): string | undefined => store.failure;
  const api = await ControlApi.listen({
    path: controlSocketPath(runDir),
    subject: { guests, backups, audit, storeFailure, chip, properties, stateDir, runDir, started: new Date() },
    metrics: createMetrics(guests, chip),
    log,
    peerUid: (fd) => peerCredentials(fd).uid,
  });
  resources.add('control API', () => api.close());
}

function inheritDescriptors(environment: NodeJS.ProcessEnv, log: Logger): DescriptorStore {
  return DescriptorStore.inherit(environment, {
    onDropped: (name, reason) => {
      log.warn('a kept socket was closed', { name, reason });
    },
    onFailure: (reason) => {
      log.warn('the service manager does not keep a socket', { reason });
    },
  });
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
