// The daemon's life: everything is opened in order, and closed in the opposite order, also when the start fails half-way.
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { reasonOf } from '../failure.js';
import { peerCredentials, sdNotify } from '../native/index.js';
import { DescriptorStore } from '../transport/kept/descriptor-store.js';
import { lockDirectory } from '../store/directory-lock.js';
import { HostStore } from '../store/host-store.js';
import { openChip } from '../host/open-chip.js';
import { AuditLog, type AuditHead } from '../host/audit-log.js';
import type { Config } from '../config/config.js';
import { ControlApi } from './api/server.js';
import { auditLogPath, controlSocketPath, damagedPath, storePath, volatilePath } from '../config/paths.js';
import { EmbeddedTpm } from '../host/embedded-tpm.js';
import { GuestBackups } from '../guests/backups/backups.js';
import { readBootId } from '../guests/journal.js';
import { HardwareGuestFactory } from '../guests/hardware-guests.js';
import { GuestRegistry } from '../guests/registry.js';
import type { Logger } from '../logger.js';
import type { RollbackEvent } from '../host/rollback/guard.js';
import { createMetrics } from './metrics.js';
import { PolicyService } from '../guests/policies/service.js';
import { PropertyService } from '../guests/properties/service.js';

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
  { log, onReady, onReload, environment = {} }: DaemonSurroundings,
  onClose: (what: string, close: () => Promise<void>) => void,
): Promise<void> {
  const descriptors = inheritDescriptors(environment, log);
  await mkdir(config.runDir, { recursive: true, mode: 0o700 });
  const lock = await lockDirectory(config.runDir, 'run directory');
  onClose('run directory', () => lock.release());
  await mkdir(config.stateDir, { recursive: true, mode: 0o700 });
  const store = await HostStore.open(storePath(config.stateDir), (failure) => {
    if (failure === undefined) log.info('the store can be written again');
    else log.error('the store cannot be written: changes of guests wait', { reason: failure });
  });
  onClose('store', () => store.close());
  const audit = await openAudit(config.stateDir, store, log);
  const tcti = await openTcti(config, log, onClose);
  const properties = await PropertyService.open({ settings: config.properties, stateDir: config.stateDir, store, log, audit });
  onClose('property providers', () => properties.close());
  const policies = await PolicyService.open({
    directory: config.policyDirectory,
    defaultClass: config.defaultPolicy,
    limits: config.limits,
    providers: properties.providerNames,
    log,
  });
  const chip = await openChip({ tcti, config, store, log, onRollback: (event) => noteRollback(audit, event) });
  onClose('TPM', () => chip.close());
  const { hardware, guard } = chip;
  const factory = new HardwareGuestFactory({ hardware, guard, log, properties, limits: config.limits });

  const directory = join(config.runDir, 'guests');
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await chmod(directory, 0o700);
  const { maxConnections, partialFrameTimeout, unreadResponseTimeout, stopTimeout } = config;
  const limits = { maxConnections, partialFrameTimeout, unreadResponseTimeout };
  const journals = { directory: volatilePath(config.runDir), bootId: await readBootId() };
  const guests = new GuestRegistry({
    store,
    factory,
    policies,
    log,
    audit,
    directory,
    journals,
    descriptors,
    limits,
    stopTimeout,
  });
  onClose('kept sockets', () => descriptors.flushed());
  onClose('guests', () => guests.suspendAll());
  await guests.resumeAll();
  descriptors.dropUnused((id) => guests.list().some(({ meta, state }) => meta.id === id && state === 'failed'));
  onReload?.(() => {
    guests.reloadPolicies().catch((error: unknown) => {
      log.error('policy classes could not be read again', { reason: reasonOf(error) });
    });
  });
  // Guests that could not be opened while the chip was away.
  chip.view.onUsable(() => {
    void guests.resumeAll();
  });

  const backups = new GuestBackups({
    guests,
    store,
    factory,
    policies,
    audit,
    damagedDirectory: damagedPath(config.stateDir),
  });
  const storeFailure = (): string | undefined => store.failure;
  const subject = {
    guests,
    backups,
    audit,
    storeFailure,
    chip: chip.view,
    properties,
    stateDir: config.stateDir,
    runDir: config.runDir,
    started: new Date(),
  };
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

const AUDIT_HEAD = 'audit-head';

/** Opens the audit log, and notes the guests whose description is damaged. */
async function openAudit(stateDir: string, store: HostStore, log: Logger): Promise<AuditLog> {
  const audit = await AuditLog.open(auditLogPath(stateDir), {
    load: () => {
      const record = store.hostRecord(AUDIT_HEAD);
      return record === undefined ? undefined : (JSON.parse(record.toString('utf8')) as AuditHead);
    },
    save: (head) => store.putHostRecords(new Map([[AUDIT_HEAD, Buffer.from(JSON.stringify(head), 'utf8')]])),
  });
  for (const { guest, message } of store.damagedGuests()) {
    log.error('a guest is refused', { guest, reason: message });
    await audit.note({ event: 'guest-refused', id: guest, detail: message });
  }
  return audit;
}

function noteRollback(audit: AuditLog, { guest, reason, allowed }: RollbackEvent): Promise<void> {
  return audit.note({ event: allowed ? 'rollback-allowed' : 'rollback-refused', guest, detail: reason });
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
