// What the daemon needs of a guest's TPM, wherever its keys live.
import type { CommandCounter } from '../hardware/chip/usage.js';
import type { GuestPolicy } from '../policy/guest-policy.js';
import type { GuestRecords } from '../store/guest-records.js';
import type { VolatileJournal } from '../store/volatile-journal.js';
import type { Numbered } from '../host/rollback/guard.js';
import type { TpmDescription } from '../transport/guest-link.js';
import type { GuestTpm } from '../vtpm/guest-tpm.js';
import type { PcrLogEntry } from '../vtpm/state/pcr/pcr-log.js';

/** The PCRs of one bank, from index 0. */
export interface PcrBank {
  /** Name of the hash algorithm, e.g. `sha256`. */
  readonly bank: string;
  readonly values: readonly Buffer[];
}

/** A guest's TPM that is open, powered off at first. */
export interface OpenedGuest {
  readonly tpm: GuestTpm;
  readonly description: TpmDescription;
  /** The PCRs as the guest sees them. */
  pcrs(): PcrBank[];
  /** What happened to the PCRs since it was opened, oldest first. */
  pcrLog(): readonly PcrLogEntry[];
  /** The policy in force: what of it counts from the next reset on may not hold yet. */
  policy(): GuestPolicy;
  /** Another policy, which {@link GuestFactory.checkPolicy} has let pass. */
  setPolicy(policy: GuestPolicy): void;
  /** Whether a part of the policy waits for the next reset. */
  policyPending(): boolean;
  /** Failures of property providers since it was opened, by provider. */
  providerFailures(): ReadonlyMap<string, number>;
  /** What the guest's commands cost in the chip since it was opened. */
  counters(): readonly CommandCounter[];
  /** How often the chip refused what nobody had foreseen that it may, by chip command, since it was opened. */
  chipRefusals(): ReadonlyMap<string, number>;
  /** Goes on where the guest was when the process before this one ended; false if there is nothing to go on with. See `VTpm.resume`. */
  readonly resume: () => Promise<boolean>;
  /** Takes the place of powering off where the next process is to {@link resume}. */
  suspend(): Promise<void>;
  /** Releases what the guest holds in memory and in the chip. It is powered off before. */
  close(): Promise<void>;
}

/** What {@link GuestFactory.open} gets of a guest. */
export interface GuestToOpen {
  readonly id: string;
  readonly name: string;
  /** What {@link GuestFactory.provision} made. */
  readonly keyBlobs: Buffer;
  readonly policy: GuestPolicy;
  /** The guest's records, once its state key is known. No view of the key is kept. */
  readonly records: (stateKey: Buffer) => GuestRecords & Numbered;
  /** As {@link records}: where its volatile state outlives the process. */
  readonly journal: (stateKey: Buffer) => VolatileJournal;
}

/** Makes guests. Methods reject with a {@link Failure} or an error whose message is for users. */
export interface GuestFactory {
  /** Rejects with a {@link Failure} if a guest cannot have this policy here. */
  checkPolicy(name: string, policy: GuestPolicy): Promise<void>;
  /** Makes a new guest's keys; what comes back is stored in clear and means nothing without the chip. */
  provision(id: string, policy: GuestPolicy): Promise<Buffer>;
  open(guest: GuestToOpen): Promise<OpenedGuest>;
  /** The state key of a guest, for a backup; 32 bytes that whoever gets them zeroizes. */
  stateKey(name: string, keyBlobs: Buffer): Promise<Buffer>;
  /** The guest's keys, with its state key sealed to whom the configuration says now. */
  reseal(name: string, keyBlobs: Buffer): Promise<Buffer>;
  /** A guest's records are about to be put back on purpose, as from a backup, while it is closed: that is no rollback. */
  acceptRestored(id: string): Promise<void>;
}
