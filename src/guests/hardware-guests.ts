// How a guest is built from the chip: its keys, its engines, its TPM.
import { reasonOf } from '../failure.js';
import { GuestLog } from '../guest-log.js';
import type { Hardware, OpenGuest } from '../hardware/hardware.js';
import { guestChipFailure } from '../host/chip-failures.js';
import type { RollbackGuard } from '../host/rollback/guard.js';
import { deriveBlobKey } from '../keys/blob.js';
import { HardwareEngine } from '../keys/hardware-engine.js';
import { KeyManagement } from '../keys/key-management.js';
import { SoftwareEngine } from '../keys/software.js';
import type { Logger } from '../logger.js';
import type { GuestPolicy } from '../policy/guest-policy.js';
import { limitsOf, type LimitSection } from '../config/limits.js';
import { hashName } from '../tpm/hash.js';
import type { TpmDescription } from '../transport/guest-link.js';
import { FIRMWARE_VERSION, MANUFACTURER, VENDOR_STRING } from '../vtpm/vendor.js';
import type { VTpmObserver } from '../vtpm/live-tpm.js';
import { VTpm } from '../vtpm/vtpm.js';
import type { GuestFactory, GuestToOpen, OpenedGuest, PcrBank } from './factory.js';
import { decodeKeyBlobs, encodeKeyBlobs } from './key-blobs.js';
import type { PropertyService } from './properties/service.js';

const PCRS = 24;
const DESCRIPTION: TpmDescription = {
  revision: 159,
  manufacturer: MANUFACTURER,
  firmwareVersion: Number(FIRMWARE_VERSION >> 32n),
  model: VENDOR_STRING,
};

/** What a {@link HardwareGuestFactory} makes guests with. */
export interface HardwareGuestParts {
  readonly hardware: Hardware;
  readonly log: Logger;
  readonly guard: RollbackGuard | undefined;
  readonly properties: PropertyService;
  /** Limits of guests whose policies say nothing of them. */
  readonly limits: LimitSection;
}

/** Guests whose keys live in the chip. */
export class HardwareGuestFactory implements GuestFactory {
  constructor(private readonly parts: HardwareGuestParts) {}

  async checkPolicy(name: string, policy: GuestPolicy): Promise<void> {
    await this.learnHost(policy);
    this.parts.properties.checkPolicy(name, policy);
  }

  async provision(id: string, policy: GuestPolicy): Promise<Buffer> {
    try {
      return encodeKeyBlobs(await this.parts.hardware.createGuestKeys(id, policy.keys.anchored.length > 0));
    } catch (error) {
      throw guestChipFailure("making the guest's keys", error);
    }
  }

  async stateKey(name: string, keyBlobs: Buffer): Promise<Buffer> {
    const opened = await this.openKeys(name, keyBlobs);
    await closeChips(opened);
    return opened.stateKey;
  }

  async reseal(name: string, keyBlobs: Buffer): Promise<Buffer> {
    try {
      return encodeKeyBlobs(await this.parts.hardware.resealGuest(decodeKeyBlobs(name, keyBlobs), name));
    } catch (error) {
      throw guestChipFailure(`sealing the state key of guest ${name}`, error);
    }
  }

  async acceptRestored(id: string): Promise<void> {
    await this.parts.guard?.accept(id);
  }

  async open({ id, name, keyBlobs, policy: first, records, journal: openJournal }: GuestToOpen): Promise<OpenedGuest> {
    const { stateKey, chip, anchored, account } = await this.openKeys(name, keyBlobs);
    let policy = first;
    const log = new GuestLog(this.parts.log, name);
    const journal = openJournal(stateKey);
    const close = async (): Promise<void> => {
      journal.release();
      log.close();
      this.parts.properties.closeGuest(id);
      await closeChips({ chip, anchored }).finally(() => this.parts.guard?.release(id));
    };
    try {
      const keys = new KeyManagement({
        hardware: new HardwareEngine(chip, log),
        anchored: anchored === undefined ? undefined : new HardwareEngine(anchored, log),
        software: new SoftwareEngine(undefined, () => account.signal),
        blobKey: deriveBlobKey(stateKey),
        choose: (hierarchy, type) => policy.engineFor(hierarchy, type),
      });
      const numbered = records(stateKey);
      await this.parts.guard?.admit(id, name, numbered);
      await this.learnHost(policy);
      const properties = this.parts.properties.openGuest({ id, name }, policy);
      // The same object for good: what is in it changes with the policy.
      const limits = { ...limitsOf(policy.limits, this.parts.limits) };
      const snapshots = (): boolean => policy.snapshots === 'allow';
      const tpm = await VTpm.open(
        { records: numbered, journal, keys, limits, guestId: id, properties, snapshots },
        account,
        observerOf(log),
      );
      return {
        tpm,
        description: DESCRIPTION,
        pcrs: () => readPcrs(tpm),
        resume: () => tpm.resume(),
        suspend: () => tpm.suspend(),
        pcrLog: () => tpm.pcrLog,
        policy: () => policy,
        setPolicy: (next) => {
          this.parts.properties.changeGuest({ id, name }, next);
          Object.assign(limits, limitsOf(next.limits, this.parts.limits));
          policy = next;
        },
        policyPending: () => properties.pending,
        providerFailures: () => properties.failures,
        counters: () => account.counters(),
        chipRefusals: () => account.refusals,
        close,
      };
    } catch (error) {
      await close();
      throw error;
    } finally {
      stateKey.fill(0);
    }
  }

  private openKeys(name: string, keyBlobs: Buffer): Promise<OpenGuest> {
    return this.parts.hardware.openGuest(decodeKeyBlobs(name, keyBlobs), name).catch((error: unknown) => {
      throw guestChipFailure(`opening guest ${name}`, error);
    });
  }

  private async learnHost(policy: GuestPolicy): Promise<void> {
    await this.parts.properties
      .learnHost(policy, () => this.parts.hardware.pcrs())
      .catch((error: unknown) => {
        throw guestChipFailure("reading the host's PCRs", error);
      });
  }
}

function observerOf(log: GuestLog): VTpmObserver {
  return {
    failed: (what, error) => {
      log.error('a guest command failed inside', { what, reason: reasonOf(error) });
    },
  };
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
