// Opens the host's chip and its keys in it, and what users see of it.
import { setTimeout as sleep } from 'node:timers/promises';
import { Hardware } from '../hardware/hardware.js';
import type { LockedStore } from '../store/locked-store.js';
import { checkChip } from './chip-checks.js';
import { chipFailure } from './chip-failures.js';
import { readHardwareRecord, writeHardwareRecord } from './hardware-record.js';
import { hostOperations } from './operations.js';
import type { ChipView } from './chip-view.js';
import type { Config } from '../config/config.js';
import type { Logger } from '../logger.js';
import type { RollbackGuard } from './rollback/guard.js';
import { readApprovedPolicies, readSealTo } from './seal-to.js';

/** What {@link openChip} needs. */
export interface ChipRequest {
  readonly tcti: string;
  readonly config: Config;
  readonly store: LockedStore;
  /** Authorization value of the chip's owner hierarchy. */
  readonly ownerAuth: Buffer;
  readonly log: Logger;
}

/** How long `status` waits for the chip, in milliseconds. */
const CONDITION_TIMEOUT = 1_500;

/** Opens the chip and the host's keys in it. Rejects with a {@link Failure}. */
export async function openChip({ tcti, config, store, ownerAuth, log }: ChipRequest): Promise<Hardware> {
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

/** What users see of a chip that is open. `guard` is undefined where older copies of the state cannot be told. */
export function chipView(
  { tcti, config }: Pick<ChipRequest, 'tcti' | 'config'>,
  hardware: Hardware,
  guard: RollbackGuard | undefined,
): ChipView {
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
