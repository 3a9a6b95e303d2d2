// The hardware TPM of this host, shared by all guests.
import { randomBytes } from 'node:crypto';
import { Tcti } from '../native/index.js';
import { GetRandom } from '../tpm/commands/index.js';
import { nameOfPublic } from '../tpm/name.js';
import { TPM_RC } from '../tpm/response-code.js';
import { Account, HOST_ACCOUNT_NAME, type CommandCounter } from './turns/usage.js';
import { readChipInfo, type ChipInfo } from './chip/info.js';
import type { ChipCondition } from './chip/health.js';
import { ChipSession } from './chip/session.js';
import { Chip } from './chip/chip.js';
import type { ChipLog, ChipTimeouts, ChipTransport } from './chip/connection.js';
import { createUnder, loadable, type KeyBlobs } from './host/create-key.js';
import { ChipError, HostKeyError, isChipGone } from './chip/errors.js';
import { GuestChip } from './guest/guest-chip.js';
import { DEFAULT_HOST_ROOT_HANDLE, openHostRoot, verifyHostRoot, type HostRecords, type HostRoot } from './host/keys.js';
import type { ApprovedPolicy, SealedTo } from './host/sealing.js';
import { ChipJobs } from './turns/jobs.js';
import { FifoScheduler, type ChipScheduler } from './turns/scheduler.js';
import { SlotCache, type LoadableKey, type SlotCounters } from './turns/slots.js';
import { StateKeys, type SealOptions } from './host/state-keys.js';
import {
  ANCHORED_ROOT_TEMPLATE,
  authorizedPolicyDigest,
  guestRootTemplate,
  migrationPolicyRef,
  MIGRATION_AUTHORITY_TEMPLATE,
} from './host/templates.js';

const STATE_KEY_SIZE = 32;
/** How often a chip that nobody uses is looked after, and what is not lately any more, in milliseconds. */
const WATCH_INTERVAL = 30_000;
const QUIET = 1_000;
const NO_DATA = Buffer.alloc(0);

/** How to reach and use the chip. */
export interface HardwareOptions {
  /** A TCTI string of tpm2-tss, e.g. `device:/dev/tpm0`. */
  readonly tcti: string;
  /** Persistent handle of the host root; default {@link DEFAULT_HOST_ROOT_HANDLE}. */
  readonly hostRootHandle?: number;
  /** Authorization value of the owner hierarchy (default: empty); needed at the first start only. */
  readonly ownerAuth?: Buffer;
  /** What {@link Hardware.hostRecords} was when the state was made; undefined at the first start. */
  readonly hostRecords?: HostRecords | undefined;
  /** Whom the state keys of new guests are sealed to; default: nobody in particular. */
  readonly sealTo?: SealedTo | undefined;
  /** What the authority has signed so far; read at each use. */
  readonly approvedPolicies?: () => Promise<readonly ApprovedPolicy[]>;
  readonly scheduler?: ChipScheduler;
  readonly timeouts?: Partial<ChipTimeouts> | undefined;
}

/** A guest's root and state key, as they are stored; useless without this chip. */
export interface GuestKeyBlobs {
  readonly rootPublic: Buffer;
  readonly rootPrivate: Buffer;
  readonly stateKeyPublic: Buffer;
  readonly stateKeyPrivate: Buffer;
  /** Whom the state key is sealed to; absent if to nobody in particular. */
  readonly sealedTo?: SealedTo | undefined;
  /** The root of keys that never leave this chip; absent if the guest has no such keys. */
  readonly anchored?: KeyBlobs | undefined;
}

/** A guest that is opened: its share of the chip. */
export interface OpenGuest {
  /** 32 bytes; whoever gets them zeroizes them. */
  readonly stateKey: Buffer;
  readonly chip: GuestChip;
  /** The same below its anchored root; undefined if it has none. */
  readonly anchored: GuestChip | undefined;
  readonly account: Account;
}

/** What happened in the chip, for metrics. */
export interface HardwareUsage {
  readonly commands: readonly CommandCounter[];
  readonly host: readonly CommandCounter[];
  readonly slots: Readonly<SlotCounters> & { readonly used: number; readonly limit: number; readonly contexts: number };
  /** Jobs that wait or run. */
  readonly pending: number;
}

/** The hardware TPM, open for guests. */
export class Hardware {
  /** What the store must keep; as given to {@link open}, or new at the first start. */
  readonly hostRecords: HostRecords;
  /** Identity and abilities of the chip, as they were at {@link open}. */
  readonly info: ChipInfo;
  /** Commands of several steps on the chip itself: migration, attestation. */
  readonly jobs: ChipJobs;
  /** The host root: parent of all that tpmux makes in the chip. Needs no authValue. */
  readonly hostRoot: HostRoot;
  /** The key that signs policies of guest roots; ECDSA P-256 with SHA-256. Needs no authValue. */
  readonly migrationAuthority: LoadableKey;
  /** Housekeeping is charged here. */
  readonly hostAccount: Account;
  private readonly stateKeys: StateKeys;
  private readonly watch: NodeJS.Timeout;

  private constructor(
    parts: Pick<Hardware, 'hostRecords' | 'info' | 'jobs' | 'hostRoot' | 'migrationAuthority' | 'hostAccount'>,
    seal: SealOptions,
  ) {
    this.hostRecords = parts.hostRecords;
    this.info = parts.info;
    this.jobs = parts.jobs;
    this.hostRoot = parts.hostRoot;
    this.migrationAuthority = parts.migrationAuthority;
    this.hostAccount = parts.hostAccount;
    this.stateKeys = new StateKeys(this.jobs, seal);
    this.watch = setInterval(() => void this.check(), WATCH_INTERVAL).unref();
  }

  /** The state of the chip as of its last command. */
  get condition(): ChipCondition {
    return this.jobs.chip.health.condition;
  }

  /** Told after each change of {@link condition}. */
  set onCondition(listener: (condition: ChipCondition) => void) {
    this.jobs.chip.onHealth = listener;
  }

  /** The state of the chip; makes sure that it is there, and the right one, if nothing was heard of it lately. Never rejects. */
  async check(): Promise<ChipCondition> {
    const { jobs, hostAccount } = this;
    const isQuiet = jobs.scheduler.pending === 0 && performance.now() - jobs.chip.lastAnswer > QUIET;
    if (isQuiet) await jobs.run(hostAccount, () => jobs.chip.examine(hostAccount)).catch(() => undefined);
    return this.condition;
  }

  /**
   * Connects to the chip, cleans up what a killed run left in it, finds or makes the host's keys and starts the session.
   * Rejects with `ChipUnavailable`, {@link HostKeyError} (the message says what to do) or {@link ChipError}.
   */
  static async open(options: HardwareOptions, log: ChipLog): Promise<Hardware> {
    const hostAccount = new Account(HOST_ACCOUNT_NAME, 'housekeeping');
    const chip = await Chip.open(connector(options.tcti), log, hostAccount, { clean: true, timeouts: options.timeouts });
    try {
      return await Hardware.start(chip, options, hostAccount);
    } catch (error) {
      await chip.close();
      throw error;
    }
  }

  /** What chip there is, without making or changing anything in it. Rejects as {@link open}. */
  static async probe(tcti: string, log: ChipLog): Promise<ChipInfo> {
    const account = new Account(HOST_ACCOUNT_NAME, 'probe');
    const chip = await Chip.open(connector(tcti), log, account, { clean: false });
    try {
      return await readChipInfo(chip, account);
    } finally {
      await chip.close();
    }
  }

  private static async start(chip: Chip, options: HardwareOptions, hostAccount: Account): Promise<Hardware> {
    const info = await readChipInfo(chip, hostAccount);
    const slots = new SlotCache(chip, info.slots);
    const hostRoot = await openHostRoot(chip, hostAccount, {
      handle: options.hostRootHandle ?? DEFAULT_HOST_ROOT_HANDLE,
      ownerAuth: options.ownerAuth ?? NO_DATA,
      recordedName: options.hostRecords?.hostRootName,
    });
    chip.session = new ChipSession(hostRoot);
    chip.verify = (which, account) => verifyHostRoot(which, account, hostRoot);
    const authority =
      options.hostRecords === undefined
        ? await createUnder(chip, hostAccount, hostRoot, MIGRATION_AUTHORITY_TEMPLATE)
        : recordedAuthority(options.hostRecords);
    return new Hardware(
      {
        hostRecords: options.hostRecords ?? newRecords(hostRoot, authority),
        info,
        jobs: new ChipJobs(chip, slots, options.scheduler ?? new FifoScheduler()),
        hostRoot,
        migrationAuthority: loadable(authority, hostRoot),
        hostAccount,
      },
      { to: options.sealTo, approved: options.approvedPolicies ?? (() => Promise.resolve([])) },
    );
  }

  /**
   * Makes the root and the state key of a new guest.
   * @param guestId what tells the guest apart wherever it goes; migrations are authorized for it
   * @param anchored whether it gets a root for keys that never leave this chip, too
   */
  createGuestKeys(guestId: string, anchored = false): Promise<GuestKeyBlobs> {
    const { jobs, hostAccount, hostRoot } = this;
    const policy = authorizedPolicyDigest(this.migrationAuthority.name, migrationPolicyRef(guestId));
    return jobs.run(hostAccount, async () => {
      const root = await createUnder(jobs.chip, hostAccount, hostRoot, guestRootTemplate(policy));
      const rootKey = loadable(root, hostRoot);
      const data = randomBytes(STATE_KEY_SIZE);
      try {
        const stateKey = await this.stateKeys.seal(hostAccount, rootKey, data);
        const identity = { rootPublic: root.publicArea, rootPrivate: root.privateBlob, ...stateKey };
        if (!anchored) return identity;
        return { ...identity, anchored: await createUnder(jobs.chip, hostAccount, hostRoot, ANCHORED_ROOT_TEMPLATE) };
      } finally {
        data.fill(0);
      }
    });
  }

  /**
   * Unseals a guest's state key and gives it its share of the chip.
   * Rejects with {@link HostKeyError} if the identity is not one of this chip, or was changed; with `HostPolicyError` if the host is not
   * one that the state key is sealed to.
   */
  async openGuest(identity: GuestKeyBlobs, guestName: string): Promise<OpenGuest> {
    const { jobs, info } = this;
    const account = new Account(guestName);
    const root = this.guestRoot(identity);
    const stateKey = await this.unseal(account, root, identity, guestName);
    const chipBelow = (key: LoadableKey): GuestChip => new GuestChip(jobs, info, key, stateKey, account);
    const anchored = identity.anchored === undefined ? undefined : chipBelow(loadable(identity.anchored, this.hostRoot));
    return { stateKey, chip: chipBelow(root), anchored, account };
  }

  /** The identity with its state key sealed to whom new guests' are. Rejects as {@link openGuest}. */
  async resealGuest(identity: GuestKeyBlobs, guestName: string): Promise<GuestKeyBlobs> {
    const { jobs, hostAccount } = this;
    const root = this.guestRoot(identity);
    const stateKey = await this.unseal(hostAccount, root, identity, guestName);
    try {
      const sealed = await jobs.run(hostAccount, () => this.stateKeys.seal(hostAccount, root, stateKey));
      const { rootPublic, rootPrivate, anchored } = identity;
      return { rootPublic, rootPrivate, ...sealed, ...(anchored === undefined ? {} : { anchored }) };
    } finally {
      stateKey.fill(0);
    }
  }

  private async unseal(account: Account, root: LoadableKey, identity: GuestKeyBlobs, guestName: string): Promise<Buffer> {
    try {
      return await this.stateKeys.unseal(account, root, identity);
    } catch (error) {
      if (!(error instanceof ChipError) || !isForeign(error)) throw error;
      const where = `host root 0x${this.hostRoot.handle.toString(16)}`;
      throw new HostKeyError(
        `the keys of guest ${guestName} were not made by this TPM, or were changed: it refuses them below its ${where} ` +
          '(put the right state directory and TPM together, or migrate the guest instead of copying it)',
        { cause: error },
      );
    }
  }

  /** A guest's root as a key to be loaded: what migration duplicates. */
  guestRoot(identity: Pick<GuestKeyBlobs, 'rootPublic' | 'rootPrivate'>): LoadableKey {
    return loadable({ publicArea: identity.rootPublic, privateBlob: identity.rootPrivate }, this.hostRoot);
  }

  /** `size` bytes from the chip's random number generator. */
  entropy(size: number): Promise<Buffer> {
    const { jobs, hostAccount } = this;
    return jobs.run(hostAccount, async () => {
      const parts: Buffer[] = [];
      for (let missing = size; missing > 0;) {
        const request = { bytesRequested: Math.min(missing, 32) };
        const { randomBytes: part } = await jobs.chip.execute(GetRandom, request, { account: hostAccount, protect: true });
        if (part.length === 0) throw new ChipError(GetRandom.name, TPM_RC.FAILURE);
        parts.push(part);
        missing -= part.length;
      }
      return Buffer.concat(parts, size);
    });
  }

  /** A snapshot. */
  usage(): HardwareUsage {
    const { chip, slots, scheduler } = this.jobs;
    return {
      commands: chip.usage.counters(),
      host: this.hostAccount.counters(),
      slots: { ...slots.counters, ...slots.occupancy },
      pending: scheduler.pending,
    };
  }

  /** Finishes the jobs that wait, takes all that is tpmux's out of the chip's memory and closes the connection. */
  async close(): Promise<void> {
    const { jobs, hostAccount } = this;
    clearInterval(this.watch);
    try {
      await jobs.run(hostAccount, async () => {
        await jobs.slots.discard(() => true, hostAccount);
        await jobs.chip.session?.end(jobs.chip, hostAccount);
      });
    } catch (error) {
      if (!isChipGone(error)) throw error;
    } finally {
      await jobs.chip.close();
    }
  }
}

function connector(tcti: string): () => Promise<ChipTransport> {
  return () => Tcti.open(tcti);
}

function recordedAuthority({ migrationAuthority }: HostRecords): KeyBlobs {
  return {
    publicArea: Buffer.from(migrationAuthority.public, 'base64'),
    privateBlob: Buffer.from(migrationAuthority.private, 'base64'),
  };
}

function newRecords(hostRoot: HostRoot, authority: KeyBlobs): HostRecords {
  return {
    hostRootName: nameOfPublic(hostRoot.publicArea).toString('hex'),
    migrationAuthority: { public: authority.publicArea.toString('base64'), private: authority.privateBlob.toString('base64') },
  };
}

/** What chips answer to a private part that is not theirs, or not of this public part. */
function isForeign({ base }: ChipError): boolean {
  return base === TPM_RC.INTEGRITY || base === TPM_RC.BINDING || base === TPM_RC.SENSITIVE || base === TPM_RC.SIZE || base === TPM_RC.TYPE;
}
