// What the guests of a daemon stand on: state, audit log, chip, property providers, policy classes.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/config.js';
import { auditLogPath, storePath } from '../config/paths.js';
import type { GuestFactory } from '../guests/factory.js';
import { HardwareGuestFactory } from '../guests/hardware-guests.js';
import { PolicyService } from '../guests/policies/service.js';
import { PropertyService } from '../guests/properties/service.js';
import { auditHead, AuditLog } from '../host/audit-log.js';
import type { ChipView } from '../host/chip-view.js';
import { EmbeddedTpm } from '../host/embedded-tpm.js';
import { openChip } from '../host/open-chip.js';
import type { RollbackEvent } from '../host/rollback/guard.js';
import type { Logger } from '../logger.js';
import { lockDirectory } from '../store/directory-lock.js';
import { readHostRecord, writeHostRecord } from '../store/host-record.js';
import { HostStore } from '../store/host-store.js';
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
  const store = await openStore(config.stateDir, log, resources);
  const audit = await openAudit(config.stateDir, store, log);
  const tcti = await openTcti(config, log, resources);
  const properties = await PropertyService.open({ settings: config.properties, stateDir: config.stateDir, store, log, audit });
  resources.add('property providers', () => properties.close());
  const policies = await PolicyService.open({
    directory: config.policyDirectory,
    defaultClass: config.defaultPolicy,
    limits: config.limits,
    providers: properties.providerNames,
    log,
  });
  const chip = await openChip({ tcti, config, store, log, onRollback: (event) => noteRollback(audit, event) });
  resources.add('TPM', () => chip.close());
  const { hardware, guard, view } = chip;
  const factory = new HardwareGuestFactory({ hardware, guard, log, properties, limits: config.limits });
  return { store, audit, chip: view, properties, policies, factory };
}

async function lockRunDirectory(path: string, resources: Resources): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const lock = await lockDirectory(path, 'run directory');
  resources.add('run directory', () => lock.release());
}

async function openStore(stateDir: string, log: Logger, resources: Resources): Promise<HostStore> {
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const store = await HostStore.open(storePath(stateDir), (failure) => {
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
