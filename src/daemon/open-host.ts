// What the guests of a daemon stand on: state, audit log, chip, property providers, policy classes.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/config.js';
import { auditLogPath, storePath } from '../config/paths.js';
import { Failure } from '../failure.js';
import type { GuestFactory } from '../guests/factory.js';
import { HardwareGuestFactory } from '../guests/hardware-guests.js';
import { PolicyService } from '../guests/policies/service.js';
import { PropertyService } from '../guests/properties/service.js';
import type { Hardware } from '../hardware/hardware.js';
import { auditHead, AuditLog } from '../host/audit-log.js';
import type { ChipView } from '../host/chip-view.js';
import { EmbeddedTpm } from '../host/embedded-tpm.js';
import { chipFailure } from '../host/chip-failures.js';
import { readHostSecret } from '../host/host-secret.js';
import { chipView, openChip } from '../host/open-chip.js';
import { readOwnerAuth } from '../host/owner-auth.js';
import type { RollbackEvent, RollbackGuard } from '../host/rollback/guard.js';
import { openRollbackGuard } from '../host/rollback/open-guard.js';
import type { Logger } from '../logger.js';
import { lockDirectory } from '../store/directory-lock.js';
import { readHostRecord, writeHostRecord } from '../store/host-record.js';
import type { HostStore } from '../store/host-store.js';
import { LockedStore } from '../store/locked-store.js';
import type { Resources } from './resources.js';

/** A host that is ready for guests. */
export interface OpenedHost {
  readonly store: HostStore;
  readonly audit: AuditLog;
  readonly chip: ChipView;
  readonly properties: PropertyService;
  readonly policies: PolicyService;
  readonly factory: GuestFactory;
}

/** Opens all of it; what is open is in `resources`, also when this rejects, as it does with a {@link Failure}. */
export async function openHost(config: Config, log: Logger, resources: Resources): Promise<OpenedHost> {
  await lockRunDirectory(config.runDir, resources);
  const locked = await openStore(config.stateDir, log, resources);
  const tcti = await openTcti(config, log, resources);
  const ownerAuth = await readOwnerAuth(config);
  const hardware = await openChip({ tcti, config, store: locked, ownerAuth, log });
  resources.add('TPM', () => hardware.close());
  const { store, audit, guard } = await openState({ config, log, hardware, ownerAuth, tcti, locked });
  if (guard !== undefined) resources.add('rollback counter', () => guard.close());
  const properties = await PropertyService.open({ settings: config.properties, stateDir: config.stateDir, store, log, audit });
  resources.add('property providers', () => properties.close());
  const policies = await PolicyService.open({
    directory: config.policyDirectory,
    defaultClass: config.defaultPolicy,
    limits: config.limits,
    providers: properties.providerNames,
    log,
  });
  const factory = new HardwareGuestFactory({ hardware, guard, log, properties, limits: config.limits });
  return { store, audit, chip: chipView({ tcti, config }, hardware, guard), properties, policies, factory };
}

/** What {@link openState} needs. */
interface StateRequest {
  readonly config: Config;
  readonly log: Logger;
  readonly hardware: Hardware;
  readonly ownerAuth: Buffer;
  readonly tcti: string;
  readonly locked: LockedStore;
}

/** Believes the store if it is what was written last, by the word of the chip. Rejects with a {@link Failure}. */
async function openState(request: StateRequest): Promise<Pick<OpenedHost, 'store' | 'audit'> & { guard: RollbackGuard | undefined }> {
  const { config, log, hardware, ownerAuth, tcti, locked } = request;
  const { stateDir, whenRollback } = config;
  const secret = await readHostSecret(hardware, locked).catch((error: unknown) => {
    throw error instanceof Failure ? error : chipFailure(tcti, error);
  });
  try {
    const allow = whenRollback === 'allow';
    const store = await locked.unlock(secret, { allow, onDetected: (reason) => noteUntrusted(stateDir, log, reason, allow) });
    const audit = await openAudit(stateDir, store, log);
    const onDetected = (event: RollbackEvent): Promise<void> => noteRollback(audit, event);
    const guard = await openRollbackGuard({ hardware, secret, ownerAuth, store, config, log, onDetected }).catch((error: unknown) => {
      throw error instanceof Failure ? error : chipFailure(tcti, error);
    });
    return { store, audit, guard };
  } finally {
    secret.fill(0);
  }
}

/** The store's records are not believed, that of the audit log's end neither. */
async function noteUntrusted(stateDir: string, log: Logger, reason: string, allowed: boolean): Promise<void> {
  const audit = await AuditLog.open(auditLogPath(stateDir), { load: () => undefined, save: () => Promise.resolve() });
  await noteRollback(audit, { guest: undefined, reason, allowed });
  if (allowed) log.error('CHANGED STATE IS USED, because rollback.when-detected is allow', { reason });
}

async function lockRunDirectory(path: string, resources: Resources): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const lock = await lockDirectory(path, 'run directory');
  resources.add('run directory', () => lock.release());
}

async function openStore(stateDir: string, log: Logger, resources: Resources): Promise<LockedStore> {
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const store = await LockedStore.open(storePath(stateDir), (failure) => {
    if (failure === undefined) log.info('the store can be written again');
    else log.error('the store cannot be written: changes of guests wait', { reason: failure });
  });
  resources.add('store', () => store.close());
  return store;
}

/** Host record with the head of the audit log. */
export const AUDIT_HEAD_RECORD = 'audit-head';

/** Opens the audit log, and notes the guests whose description is damaged. */
async function openAudit(stateDir: string, store: HostStore, log: Logger): Promise<AuditLog> {
  const audit = await AuditLog.open(auditLogPath(stateDir), {
    load: () => readHostRecord(store, AUDIT_HEAD_RECORD, auditHead),
    save: (head) => writeHostRecord(store, AUDIT_HEAD_RECORD, head),
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

async function openTcti(config: Config, log: Logger, resources: Resources): Promise<string> {
  if (!config.embeddedTpm) return config.tcti;
  const embedded = await EmbeddedTpm.start({
    stateDirectory: join(config.stateDir, 'embedded-tpm'),
    runDirectory: join(config.runDir, 'chip'),
    log,
  });
  resources.add('embedded TPM', () => embedded.stop());
  return embedded.tcti;
}
