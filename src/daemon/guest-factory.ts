// What the daemon needs of a guest's TPM, wherever its keys live.
import type { CommandCounter } from '../hardware/account.js';
import type { GuestRecords } from '../store/guest-records.js';
import type { Numbered } from './rollback-guard.js';
import type { TpmDescription } from '../transport/guest-link.js';
import type { GuestTpm } from '../vtpm/guest-tpm.js';
import type { PcrLogEntry } from '../vtpm/state/pcr-log.js';

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
  /** What the guest's commands cost in the chip since it was opened. */
  counters(): readonly CommandCounter[];
  /** Releases what the guest holds in memory and in the chip. It is powered off before. */
  close(): Promise<void>;
}

/** What {@link GuestFactory.open} gets of a guest. */
export interface GuestToOpen {
  readonly id: string;
  readonly name: string;
  /** What {@link GuestFactory.provision} made. */
  readonly identity: Buffer;
  /** Text of the policy file, or null. */
  readonly policy: string | null;
  /** The guest's records, once its state key is known. No view of the key is kept. */
  readonly records: (stateKey: Buffer) => GuestRecords & Numbered;
}

/** Makes guests. Methods reject with a {@link Failure} or an error whose message is for users. */
export interface GuestFactory {
  /** Throws a {@link Failure} if this text cannot be a guest's policy. */
  checkPolicy(text: string): void;
  /** Makes a new guest's keys; what comes back is stored in clear and means nothing without the chip. */
  provision(id: string): Promise<Buffer>;
  open(guest: GuestToOpen): Promise<OpenedGuest>;
  /** The state key of a guest, for a backup; 32 bytes that whoever gets them zeroises. */
  stateKey(name: string, identity: Buffer): Promise<Buffer>;
  /** A guest's records are about to be put back on purpose, as from a backup, while it is closed: that is no rollback. */
  acceptRestored(id: string): Promise<void>;
}
