// Assembles the host's chip: its keys, the guard against older copies of the state, and what users see of it.
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../failure.js';
import { Hardware } from '../hardware/hardware.js';
import type { HostStore } from '../store/host-store.js';
import { checkChip } from './chip-checks.js';
import { chipFailure } from './chip-failures.js';
import { readHardwareRecord, writeHardwareRecord } from './hardware-record.js';
import { hostOperations } from './operations.js';
import { openRollbackGuard } from './rollback/open-guard.js';
import type { ChipView } from './chip-view.js';
import type { Config } from '../config/config.js';
import type { Logger } from '../logger.js';
import { readOwnerAuth } from './owner-auth.js';
import type { RollbackEvent, RollbackGuard } from './rollback/guard.js';
import { readApprovedPolicies, readSealTo } from './seal-to.js';

/** A chip that is open for guests. */
export interface OpenedChip {
  readonly hardware: Hardware;
  /** Undefined where older copies of the state cannot be told. */
  readonly guard: RollbackGuard | undefined;
  readonly view: ChipView;
  close(): Promise<void>;
}

/** What {@link openChip} needs. */
export interface ChipRequest {
  readonly tcti: string;
  readonly config: Config;
  readonly store: HostStore;
  readonly log: Logger;
  /** Told of every older copy of the state that is found, before it is refused or let pass. */
  readonly onRollback?: ((event: RollbackEvent) => void | Promise<void>) | undefined;
}

/** How long `status` waits for the chip, in milliseconds. */
const CONDITION_TIMEOUT = 1_500;

/** Opens the chip and the host's keys in it. Rejects with a {@link Failure}. */
export async function openChip(request: ChipRequest): Promise<OpenedChip> {
  const { tcti, config, store, log, onRollback } = request;
  const ownerAuth = await readOwnerAuth(config);
  const hardware = await openHardware(request, ownerAuth);
  try {
    const guard = await openRollbackGuard({ hardware, ownerAuth, store, config, log, onDetected: onRollback }).catch((error: unknown) => {
      throw error instanceof Failure ? error : chipFailure(tcti, error);
    });
    return {
      hardware,
      guard,
      view: chipView(request, hardware, guard),
      close: async () => {
        await guard?.close();
        await hardware.close();
      },
    };
  } catch (error) {
    await hardware.close().catch(() => undefined);
    throw error;
  }
}

async function openHardware({ tcti, config, store, log }: ChipRequest, ownerAuth: Buffer): Promise<Hardware> {
  const hostRecords = readHardwareRecord(store);
  const sealTo = await readSealTo(config);
  await readApprovedPolicies(config);
  const options = {
    tcti,
    hostRecords,
    ownerAuth,
    sealTo,
    approvedPolicies: () => readApprovedPolicies(config),
    ...(config.hostRootHandle === undefined ? {} : { hostRootHandle: config.hostRootHandle }),
  };
  const hardware = await Hardware.open(options, log).catch((error: unknown) => {
    throw chipFailure(tcti, error);
  });
  if (hostRecords === undefined) await writeHardwareRecord(store, hardware.hostRecords);
  return hardware;
}

function chipView({ tcti, config }: ChipRequest, hardware: Hardware, guard: RollbackGuard | undefined): ChipView {
  const listeners: (() => void)[] = [];
  hardware.onCondition = ({ state }) => {
    if (state === 'ok') for (const listener of listeners) listener();
  };
  return {
    tcti,
    embedded: config.embeddedTpm,
    info: hardware.info,
    condition: () => hardware.condition,
    currentCondition: () =>
      Promise.race([hardware.check(), sleep(CONDITION_TIMEOUT, undefined, { ref: false }).then(() => hardware.condition)]),
    onUsable: (listener) => listeners.push(listener),
    rollback: () => guard?.view() ?? null,
    host: hostOperations(hardware),
    check: () => checkChip(hardware.info),
    counters: () => hardware.usage().commands,
    pending: () => hardware.usage().pending,
  };
}
