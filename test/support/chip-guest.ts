// A vTPM whose keys are in a real (software) chip, for tests of what reaches the chip.
import type { Account } from '../../src/hardware/chip/usage.js';
import type { Hardware } from '../../src/hardware/hardware.js';
import { deriveBlobKey } from '../../src/keys/blob.js';
import { HardwareEngine } from '../../src/keys/hardware-engine.js';
import { KeyManagement } from '../../src/keys/key-management.js';
import { SoftwareEngine } from '../../src/keys/software.js';
import type { GuestRecords } from '../../src/store/guest-records.js';
import { openTestTpm, type TestTpm } from './vtpm.js';

const silent = { info: (): void => undefined, warn: (): void => undefined };

/** A guest of `hardware`, powered and started, with records in memory unless `recordsOf` gives others. */
export async function openChipGuest(
  hardware: Hardware,
  name: string,
  recordsOf?: (stateKey: Buffer) => GuestRecords,
): Promise<TestTpm & { readonly account: Account }> {
  const { stateKey, chip, account } = await hardware.openGuest(await hardware.createGuestKeys(name), name);
  const keys = new KeyManagement({
    hardware: new HardwareEngine(chip, silent),
    software: new SoftwareEngine(),
    blobKey: deriveBlobKey(stateKey),
  });
  const store = recordsOf === undefined ? {} : { store: recordsOf(stateKey) };
  return { ...(await openTestTpm({ keys, account, ...store })), account };
}
