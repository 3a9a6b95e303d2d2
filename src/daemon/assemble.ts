// How a guest is built from the chip: its keys, its engines, its TPM.
import { EXIT, Failure, reasonOf } from '../failure.js';
import { ChipUnavailable } from '../hardware/errors.js';
import { Hardware } from '../hardware/hardware.js';
import type { HostRecords } from '../hardware/host-keys.js';
import { deriveBlobKey } from '../keys/blob.js';
import { HardwareEngine } from '../keys/hardware-engine.js';
import { KeyManagement } from '../keys/key-management.js';
import { SoftwareEngine } from '../keys/software.js';
import type { HostStore } from '../store/host-store.js';
import { StoreError } from '../store/store-error.js';
import { hashName } from '../tpm/hash.js';
import type { TpmDescription } from '../transport/guest-link.js';
import { FIRMWARE_VERSION, MANUFACTURER, VENDOR_STRING } from '../vtpm/identity.js';
import { defaultLimits } from '../vtpm/limits.js';
import { VTpm } from '../vtpm/vtpm.js';
import { checkChip } from './chip-checks.js';
import type { ChipView } from './chip-view.js';
import type { Config } from './config.js';
import type { GuestFactory, GuestToOpen, OpenedGuest, PcrBank } from './guest-factory.js';
import { decodeIdentity, encodeIdentity } from './guest-identity.js';
import type { Logger } from './logger.js';

/** A chip that is open, and what makes guests with it. */
export interface OpenedChip {
  readonly factory: GuestFactory;
  readonly view: ChipView;
  close(): Promise<void>;
}

/** What {@link openChip} needs. */
export interface ChipRequest {
  readonly tcti: string;
  readonly config: Pick<Config, 'embeddedTpm' | 'hostRootHandle'>;
  readonly store: HostStore;
  readonly log: Logger;
}

const HARDWARE_RECORD = 'hardware';
const PCRS = 24;
const DESCRIPTION: TpmDescription = {
  revision: 159,
  manufacturer: MANUFACTURER,
  firmwareVersion: Number(FIRMWARE_VERSION >> 32n),
  model: VENDOR_STRING,
};

/** Opens the chip and the host's keys in it. Rejects with a {@link Failure}. */
export async function openChip({ tcti, config, store, log }: ChipRequest): Promise<OpenedChip> {
  const hostRecords = readHostRecords(store);
  const handle = config.hostRootHandle === undefined ? {} : { hostRootHandle: config.hostRootHandle };
  const hardware = await Hardware.open({ tcti, hostRecords, ...handle }, log).catch((error: unknown) => {
    throw chipFailure(tcti, error);
  });
  if (hostRecords === undefined) {
    await store.putHostRecords(new Map([[HARDWARE_RECORD, Buffer.from(JSON.stringify(hardware.hostRecords), 'utf8')]]));
  }
  return {
    factory: new HardwareGuestFactory(hardware, log),
    view: {
      tcti,
      embedded: config.embeddedTpm,
      info: hardware.info,
      check: () => checkChip(hardware.info),
      counters: () => hardware.usage().commands,
      pending: () => hardware.usage().pending,
    },
    close: () => hardware.close(),
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

/** Puts a chip's refusal into words. */
export function chipFailure(tcti: string, error: unknown): Failure {
  const unreachable = error instanceof ChipUnavailable;
  return new Failure(
    {
      code: unreachable ? 'tpm_unreachable' : 'tpm_refused',
      what: `opening the TPM ${tcti}`,
      why: reasonOf(error),
      hint: unreachable
        ? "check --tcti and that no other program has the TPM open; 'tpmux doctor' tells more"
        : "'tpmux doctor' tells more",
      exit: unreachable ? EXIT.unreachable : EXIT.failed,
    },
    { cause: error },
  );
}

/** Guests whose keys live in the chip. */
class HardwareGuestFactory implements GuestFactory {
  constructor(
    private readonly hardware: Hardware,
    private readonly log: Logger,
  ) {}

  checkPolicy(): void {
    throw new Failure({
      code: 'policy_unsupported',
      what: "reading the guest's policy",
      why: 'guest policies are not supported yet',
      hint: 'create the guest without --policy',
      exit: EXIT.unsupported,
    });
  }

  async provision(id: string): Promise<Buffer> {
    return encodeIdentity(await this.hardware.createGuestIdentity(id));
  }

  async open({ name, identity, records }: GuestToOpen): Promise<OpenedGuest> {
    const { stateKey, chip, account } = await this.hardware.openGuest(decodeIdentity(name, identity), name);
    try {
      const keys = new KeyManagement({
        hardware: new HardwareEngine(chip, this.log),
        software: new SoftwareEngine(),
        blobKey: deriveBlobKey(stateKey),
      });
      const observer = {
        failed: (what: string, error: unknown): void => {
          this.log.error('a guest command failed inside', { guest: name, what, reason: reasonOf(error) });
        },
      };
      const tpm = await VTpm.open({ records: records(stateKey), keys, limits: defaultLimits }, account, observer);
      return {
        tpm,
        description: DESCRIPTION,
        pcrs: () => readPcrs(tpm),
        counters: () => account.counters(),
        close: () => chip.close(),
      };
    } catch (error) {
      await chip.close();
      throw error;
    } finally {
      stateKey.fill(0);
    }
  }
}

function readPcrs(tpm: VTpm): PcrBank[] {
  return tpm.pcrBanks.map((algorithm) => ({
    bank: hashName(algorithm),
    values: Array.from({ length: PCRS }, (_, index) => tpm.readPcr(algorithm, index)).filter((value) => value !== undefined),
  }));
}
