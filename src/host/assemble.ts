// How a guest is built from the chip: its keys, its engines, its TPM.
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure, reasonOf } from '../failure.js';
import { Hardware, type OpenGuest } from '../hardware/hardware.js';
import { readHostPcrs } from '../hardware/host/pcrs.js';
import type { HostRecords } from '../hardware/host/keys.js';
import { deriveBlobKey } from '../keys/blob.js';
import { HardwareEngine } from '../keys/hardware-engine.js';
import { KeyManagement } from '../keys/key-management.js';
import { SoftwareEngine } from '../keys/software.js';
import type { GuestPolicy } from '../policy/guest-policy.js';
import { limitsOf, type LimitSection } from '../policy/limits.js';
import type { HostStore } from '../store/host-store.js';
import { StoreError } from '../store/store-error.js';
import { hashName } from '../tpm/hash.js';
import type { TpmDescription } from '../transport/guest-link.js';
import { FIRMWARE_VERSION, MANUFACTURER, VENDOR_STRING } from '../vtpm/vendor.js';
import { VTpm } from '../vtpm/vtpm.js';
import { checkChip } from './chip-checks.js';
import { chipFailure, guestChipFailure } from './chip-failures.js';
import { hostOperations } from './operations.js';
import { openRollbackGuard } from './rollback/open-guard.js';
import type { ChipView } from './chip-view.js';
import type { Config } from '../config/config.js';
import type { GuestFactory, GuestToOpen, OpenedGuest, PcrBank } from '../guests/factory.js';
import { decodeKeyBlobs, encodeKeyBlobs } from '../guests/key-blobs.js';
import type { Logger } from '../logger.js';
import type { PropertyService } from '../guests/properties/service.js';
import { readOwnerAuth } from './owner-auth.js';
import type { RollbackEvent, RollbackGuard } from './rollback/guard.js';
import { readApprovedPolicies, readSealTo } from './seal-to.js';

/** A chip that is open, and what makes guests with it. */
export interface OpenedChip {
  readonly factory: GuestFactory;
  readonly view: ChipView;
  close(): Promise<void>;
}

/** What {@link openChip} needs. */
export interface ChipRequest {
  readonly tcti: string;
  readonly config: Config;
  readonly store: HostStore;
  readonly log: Logger;
  /** Makes the property providers of guests; default: `digest` alone. */
  readonly properties?: PropertyService | undefined;
  /** Told of every older copy of the state that is found, before it is refused or let pass. */
  readonly onRollback?: ((event: RollbackEvent) => void | Promise<void>) | undefined;
}

const HARDWARE_RECORD = 'hardware';
const PCRS = 24;
/** How long `status` waits for the chip, in milliseconds. */
const CONDITION_TIMEOUT = 1_500;
const DESCRIPTION: TpmDescription = {
  revision: 159,
  manufacturer: MANUFACTURER,
  firmwareVersion: Number(FIRMWARE_VERSION >> 32n),
  model: VENDOR_STRING,
};

/** Opens the chip and the host's keys in it. Rejects with a {@link Failure}. */
export async function openChip(request: ChipRequest): Promise<OpenedChip> {
  const { tcti, config, store, log, onRollback, properties } = request;
  const ownerAuth = await readOwnerAuth(config);
  const hardware = await openHardware(request, ownerAuth);
  try {
    const guard = await openRollbackGuard({ hardware, ownerAuth, store, config, log, onDetected: onRollback }).catch((error: unknown) => {
      throw error instanceof Failure ? error : chipFailure(tcti, error);
    });
    return {
      factory: new HardwareGuestFactory({ hardware, log, guard, properties, limits: config.limits }),
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
  const hostRecords = readHostRecords(store);
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
  if (hostRecords === undefined) {
    await store.putHostRecords(new Map([[HARDWARE_RECORD, Buffer.from(JSON.stringify(hardware.hostRecords), 'utf8')]]));
  }
  return hardware;
}

function chipView({ tcti, config, store, log }: ChipRequest, hardware: Hardware, guard: RollbackGuard | undefined): ChipView {
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
    host: hostOperations(hardware, store, log),
    check: () => checkChip(hardware.info),
    counters: () => hardware.usage().commands,
    pending: () => hardware.usage().pending,
  };
}

function readHostRecords(store: HostStore): HostRecords | undefined {
  const record = store.hostRecord(HARDWARE_RECORD);
  if (record === undefined) return undefined;
  try {
    return JSON.parse(record.toString('utf8')) as HostRecords;
  } catch (error) {
    throw new StoreError(
      `reading the store ${store.directory}`,
      "host record 'hardware' is damaged",
      'restore the store from a backup',
      {},
      { cause: error },
    );
  }
}

interface FactoryParts {
  readonly hardware: Hardware;
  readonly log: Logger;
  readonly guard: RollbackGuard | undefined;
  readonly properties: PropertyService | undefined;
  readonly limits: LimitSection;
}

/** Guests whose keys live in the chip. */
class HardwareGuestFactory implements GuestFactory {
  private readonly hardware: Hardware;
  private readonly log: Logger;
  private readonly guard: RollbackGuard | undefined;
  private readonly properties: PropertyService | undefined;
  /** Limits of guests whose policies say nothing of them. */
  private readonly limits: LimitSection;

  constructor(parts: FactoryParts) {
    this.hardware = parts.hardware;
    this.log = parts.log;
    this.guard = parts.guard;
    this.properties = parts.properties;
    this.limits = parts.limits;
  }

  async checkPolicy(name: string, policy: GuestPolicy): Promise<void> {
    await this.learnHost(policy);
    this.properties?.checkPolicy(name, policy);
  }

  async provision(id: string, policy: GuestPolicy): Promise<Buffer> {
    try {
      return encodeKeyBlobs(await this.hardware.createGuestKeys(id, policy.keys.anchored.length > 0));
    } catch (error) {
      throw guestChipFailure("making the guest's keys", error);
    }
  }

  async stateKey(name: string, identity: Buffer): Promise<Buffer> {
    const opened = await this.hardware.openGuest(decodeKeyBlobs(name, identity), name).catch((error: unknown) => {
      throw guestChipFailure(`opening guest ${name}`, error);
    });
    await closeChips(opened);
    return opened.stateKey;
  }

  async acceptRestored(id: string): Promise<void> {
    await this.guard?.accept(id);
  }

  async open({ id, name, identity, policy: first, records, journal: openJournal }: GuestToOpen): Promise<OpenedGuest> {
    const { stateKey, chip, anchored, account } = await this.hardware
      .openGuest(decodeKeyBlobs(name, identity), name)
      .catch((error: unknown) => {
        throw guestChipFailure(`opening guest ${name}`, error);
      });
    let policy = first;
    const journal = openJournal(stateKey);
    const close = async (): Promise<void> => {
      journal.release();
      this.properties?.closeGuest(id);
      await closeChips({ chip, anchored }).finally(() => this.guard?.release(id));
    };
    try {
      const keys = new KeyManagement({
        hardware: new HardwareEngine(chip, this.log),
        anchored: anchored === undefined ? undefined : new HardwareEngine(anchored, this.log),
        software: new SoftwareEngine(),
        blobKey: deriveBlobKey(stateKey),
        choose: (hierarchy, type) => policy.engineFor(hierarchy, type),
      });
      const observer = {
        failed: (what: string, error: unknown): void => {
          this.log.error('a guest command failed inside', { guest: name, what, reason: reasonOf(error) });
        },
      };
      const numbered = records(stateKey);
      await this.guard?.admit(id, name, numbered);
      await this.learnHost(policy);
      const properties = this.properties?.openGuest({ id, name }, policy);
      // The same object for good: what is in it changes with the policy.
      const limits = { ...limitsOf(policy.limits, this.limits) };
      const tpm = await VTpm.open({ records: numbered, journal, keys, limits, guestId: id, properties }, account, observer);
      return {
        tpm,
        description: DESCRIPTION,
        pcrs: () => readPcrs(tpm),
        resume: () => tpm.resume(),
        suspend: () => tpm.suspend(),
        pcrLog: () => tpm.pcrLog,
        policy: () => policy,
        setPolicy: (next) => {
          this.properties?.changeGuest({ id, name }, next);
          Object.assign(limits, limitsOf(next.limits, this.limits));
          policy = next;
        },
        policyPending: () => properties?.pending ?? false,
        providerFailures: () => properties?.failures ?? new Map<string, number>(),
        counters: () => account.counters(),
        close,
      };
    } catch (error) {
      await close();
      throw error;
    } finally {
      stateKey.fill(0);
    }
  }

  private async learnHost(policy: GuestPolicy): Promise<void> {
    await this.properties
      ?.learnHost(policy, () => readHostPcrs(this.hardware))
      .catch((error: unknown) => {
        throw guestChipFailure("reading the host's PCRs", error);
      });
  }
}

/** Closes all that a guest has in the chip. */
async function closeChips({ chip, anchored }: Pick<OpenGuest, 'chip' | 'anchored'>): Promise<void> {
  await chip.close().finally(() => anchored?.close());
}

function readPcrs(tpm: VTpm): PcrBank[] {
  return tpm.pcrBanks.map((algorithm) => ({
    bank: hashName(algorithm),
    values: Array.from({ length: PCRS }, (_, index) => tpm.readPcr(algorithm, index)).filter((value) => value !== undefined),
  }));
}
