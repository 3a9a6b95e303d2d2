// The hardware TPM of this host, shared by all guests.
import { randomBytes } from 'node:crypto';
import { Tcti } from '../native/index.js';
import { GetRandom } from '../tpm/commands/index.js';
import { nameOfPublic } from '../tpm/name.js';
import { TPM_RC } from '../tpm/response-code.js';
import { Account, HOST_ACCOUNT_NAME, type CommandCounter } from './chip/usage.js';
import { readChipInfo, type ChipInfo } from './chip/info.js';
import type { ChipCondition } from './chip/health.js';
import { Chip } from './chip/chip.js';
import type { ChipLog, ChipTimeouts, ChipTransport } from './chip/connection.js';
import { createUnder, loadable, type KeyBlobs } from './host/create-key.js';
import { ChipError, HostKeyError, isChipGone } from './chip/errors.js';
import { GuestChip, guestAuthValue } from './guest/guest-chip.js';
import { HostCounter, type HostCounterParts } from './host/counter.js';
import { DEFAULT_HOST_ROOT_HANDLE, openHostRoot, type HostRecords, type HostRoot } from './host/keys.js';
import { readHostPcrs, type HostPcrs } from './host/pcrs.js';
import { currentPolicy, type ApprovedPolicy, type PcrChoice, type SealedTo } from './host/sealing.js';
import { createHostSecret, openHostSecret } from './host/secret.js';
import { Occupant } from './occupant.js';
import type { Turn } from './turns/turn.js';
import { Turns } from './turns/turns.js';
import { FifoScheduler, type ChipScheduler } from './turns/scheduler.js';
import type { LoadableKey, SlotCounters } from './turns/slots.js';
import { StateKeys, type SealOptions } from './host/state-keys.js';
import {
  ANCHORED_ROOT_TEMPLATE,
  authorizedPolicyDigest,
  guestRootTemplate,
  migrationPolicyRef,
  MIGRATION_AUTHORITY_TEMPLATE,
  secretsKeyTemplate,
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

/** A root whose keys never leave the chip, as it is stored. */
interface AnchoredBlobs extends KeyBlobs {
  readonly secretsKey: KeyBlobs;
}

/** A guest's root and state key, as they are stored; useless without this chip. */
export interface GuestKeyBlobs {
  readonly rootPublic: Buffer;
  readonly rootPrivate: Buffer;
  /** The key below the root that the secrets of symmetric objects are encrypted for. */
  readonly secretsKey: KeyBlobs;
  readonly stateKeyPublic: Buffer;
  readonly stateKeyPrivate: Buffer;
  /** Whom the state key is sealed to; absent if to nobody in particular. */
  readonly sealedTo?: SealedTo | undefined;
  /** The root of keys that never leave this chip, with its own key for secrets; absent if the guest has no such keys. */
  readonly anchored?: AnchoredBlobs | undefined;
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

/** What an open chip consists of. */
interface HardwareParts {
  readonly hostRecords: HostRecords;
  readonly info: ChipInfo;
  readonly chip: Chip;
  readonly occupant: Occupant;
  readonly scheduler: ChipScheduler;
  readonly hostRoot: HostRoot;
  readonly migrationAuthority: LoadableKey;
}

/** The hardware TPM, open for guests. Commands are sent in turns alone. */
export class Hardware {
  /** What the store must keep; as given to {@link open}, or new at the first start. */
  readonly hostRecords: HostRecords;
  /** Identity and abilities of the chip, as they were at {@link open}. */
  readonly info: ChipInfo;
  /** The host root: parent of all that tpmux makes in the chip. Needs no authValue. */
  readonly hostRoot: HostRoot;
  /** The key that signs policies of guest roots; ECDSA P-256 with SHA-256. Needs no authValue. */
  readonly migrationAuthority: LoadableKey;
  /** Housekeeping is charged here. */
  private readonly account = new Account(HOST_ACCOUNT_NAME, 'housekeeping');
  private readonly chip: Chip;
  private readonly occupant: Occupant;
  private readonly turns: Turns;
  private readonly stateKeys: StateKeys;
  private readonly watch: NodeJS.Timeout;

  private constructor({ hostRecords, info, chip, occupant, scheduler, hostRoot, migrationAuthority }: HardwareParts, seal: SealOptions) {
    this.hostRecords = hostRecords;
    this.info = info;
    this.chip = chip;
    this.occupant = occupant;
    this.turns = new Turns(chip, occupant.slots, scheduler);
    this.hostRoot = hostRoot;
    this.migrationAuthority = migrationAuthority;
    this.stateKeys = new StateKeys(seal);
    this.watch = setInterval(() => void this.check(), WATCH_INTERVAL).unref();
  }

  /** The state of the chip as of its last command. */
  get condition(): ChipCondition {
    return this.chip.health.condition;
  }

  /** Told after each change of {@link condition}. */
  set onCondition(listener: (condition: ChipCondition) => void) {
    this.occupant.onCondition(listener);
  }

  /** The state of the chip; makes sure that it is there, and the right one, if nothing was heard of it lately. Never rejects. */
  async check(): Promise<ChipCondition> {
    const { chip, turns } = this;
    const isQuiet = turns.pending === 0 && performance.now() - chip.lastAnswer > QUIET;
    if (isQuiet) await this.run(() => chip.examine()).catch(() => undefined);
    return this.condition;
  }

  /** Runs a job of the host itself in a turn; see {@link Turns.run}. */
  private readonly run = <T>(job: (turn: Turn) => Promise<T>): Promise<T> => this.turns.run({ guest: this.account, kind: 'host' }, job);

  /**
   * Connects to the chip, cleans up what a killed run left in it, finds or makes the host's keys and starts the session.
   * Rejects with `ChipUnavailable`, {@link HostKeyError} (the message says what to do) or {@link ChipError}.
   */
  static async open(options: HardwareOptions, log: ChipLog): Promise<Hardware> {
    const occupant = new Occupant();
    const chip = await Chip.open(connector(options.tcti), log, occupant, { clean: true, timeouts: options.timeouts });
    try {
      return await Hardware.start(chip, occupant, options);
    } catch (error) {
      await chip.close();
      throw error;
    }
  }

  /** What chip there is, without making or changing anything in it. Rejects as {@link open}. */
  static async probe(tcti: string, log: ChipLog): Promise<ChipInfo> {
    const chip = await Chip.open(connector(tcti), log, new Occupant(), { clean: false });
    try {
      return await readChipInfo(chip);
    } finally {
      await chip.close();
    }
  }

  private static async start(chip: Chip, occupant: Occupant, options: HardwareOptions): Promise<Hardware> {
    const { hostRecords, ownerAuth = NO_DATA, scheduler = new FifoScheduler() } = options;
    const info = await readChipInfo(chip);
    occupant.slots.setLimit(info.slots);
    const handle = options.hostRootHandle ?? DEFAULT_HOST_ROOT_HANDLE;
    const hostRoot = await openHostRoot(chip, { handle, ownerAuth, recordedName: hostRecords?.hostRootName });
    chip.authorizeWith(hostRoot);
    occupant.settle(hostRoot);
    const authority =
      hostRecords === undefined ? await createUnder(chip, hostRoot, MIGRATION_AUTHORITY_TEMPLATE) : recordedAuthority(hostRecords);
    const records = hostRecords ?? newRecords(hostRoot, authority);
    const migrationAuthority = loadable(authority, hostRoot);
    return new Hardware(
      { hostRecords: records, info, chip, occupant, scheduler, hostRoot, migrationAuthority },
      { to: options.sealTo, approved: options.approvedPolicies ?? (() => Promise.resolve([])) },
    );
  }

  /**
   * Makes the root and the state key of a new guest.
   * @param guestId what tells the guest apart wherever it goes; migrations are authorized for it
   * @param anchored whether it gets a root for keys that never leave this chip, too
   */
  createGuestKeys(guestId: string, anchored = false): Promise<GuestKeyBlobs> {
    const { hostRoot } = this;
    const policy = authorizedPolicyDigest(this.migrationAuthority.name, migrationPolicyRef(guestId));
    return this.run(async (turn) => {
      const root = await createUnder(turn, hostRoot, guestRootTemplate(policy));
      const data = randomBytes(STATE_KEY_SIZE);
      try {
        const stateKey = await this.stateKeys.seal(turn, loadable(root, hostRoot), data);
        const secretsKey = await createSecretsKey(turn, loadable(root, hostRoot), data);
        const blobs = { rootPublic: root.publicArea, rootPrivate: root.privateBlob, secretsKey, ...stateKey };
        if (!anchored) return blobs;
        const fixed = await createUnder(turn, hostRoot, ANCHORED_ROOT_TEMPLATE);
        return { ...blobs, anchored: { ...fixed, secretsKey: await createSecretsKey(turn, loadable(fixed, hostRoot), data) } };
      } finally {
        data.fill(0);
      }
    });
  }

  /**
   * Unseals a guest's state key and gives it its share of the chip.
   * Rejects with {@link HostKeyError} if the key blobs are not this chip's, or were changed; with `HostPolicyError` if the host is not
   * one that the state key is sealed to.
   */
  async openGuest(keyBlobs: GuestKeyBlobs, guestName: string): Promise<OpenGuest> {
    const { turns, info } = this;
    const account = new Account(guestName);
    const root = this.guestRoot(keyBlobs);
    const stateKey = await this.unseal(account, root, keyBlobs);
    const chipBelow = (key: LoadableKey, secretsKey: KeyBlobs): GuestChip =>
      new GuestChip(turns, info, { root: key, secretsKey: loadable(secretsKey, key), stateKey }, account);
    const { secretsKey, anchored: fixed } = keyBlobs;
    const anchored = fixed === undefined ? undefined : chipBelow(loadable(fixed, this.hostRoot), fixed.secretsKey);
    return { stateKey, chip: chipBelow(root, secretsKey), anchored, account };
  }

  /** The key blobs with their state key sealed to whom new guests' are. Rejects as {@link openGuest}. */
  async resealGuest(keyBlobs: GuestKeyBlobs, guestName: string): Promise<GuestKeyBlobs> {
    const root = this.guestRoot(keyBlobs);
    const stateKey = await this.unseal(new Account(guestName), root, keyBlobs);
    try {
      const sealed = await this.run((turn) => this.stateKeys.seal(turn, root, stateKey));
      const { rootPublic, rootPrivate, secretsKey, anchored } = keyBlobs;
      return { rootPublic, rootPrivate, secretsKey, ...sealed, ...(anchored === undefined ? {} : { anchored }) };
    } finally {
      stateKey.fill(0);
    }
  }

  private async unseal(guest: Account, root: LoadableKey, keyBlobs: GuestKeyBlobs): Promise<Buffer> {
    try {
      return await this.turns.run({ guest, kind: 'host', key: root.id }, (turn) => this.stateKeys.unseal(turn, root, keyBlobs));
    } catch (error) {
      if (!(error instanceof ChipError) || !isForeign(error)) throw error;
      const where = `host root 0x${this.hostRoot.handle.toString(16)}`;
      throw new HostKeyError(
        `the keys of guest ${guest.guest} were not made by this TPM, or were changed: it refuses them below its ${where} ` +
          '(put the right state directory and TPM together, or migrate the guest instead of copying it)',
        { cause: error },
      );
    }
  }

  /** A guest's root as a key to be loaded: what migration duplicates. */
  guestRoot({ rootPublic, rootPrivate }: Pick<GuestKeyBlobs, 'rootPublic' | 'rootPrivate'>): LoadableKey {
    return loadable({ publicArea: rootPublic, privateBlob: rootPrivate }, this.hostRoot);
  }

  /** A new secret of the host, sealed by the chip. */
  createSecret(): Promise<KeyBlobs> {
    return this.run((turn) => createHostSecret(turn, this.hostRoot));
  }

  /** What {@link createSecret} made, 32 bytes that the caller zeroizes. Rejects as the chip does if it is not this chip's. */
  openSecret(blobs: KeyBlobs): Promise<Buffer> {
    return this.run((turn) => openHostSecret(turn, this.hostRoot, blobs));
  }

  /** The counter of this host in the chip; it is defined when that is asked of it. */
  counter(parts: Pick<HostCounterParts, 'authValue' | 'ownerAuth'>): HostCounter {
    return new HostCounter({ ...parts, run: this.run, owner: [this.hostRoot.name, this.migrationAuthority.name] });
  }

  /** All PCRs of the chip; see {@link readHostPcrs}. */
  pcrs(): Promise<HostPcrs> {
    return this.run(readHostPcrs);
  }

  /** Digest of `PolicyPCR` over PCRs as they are now. */
  pcrPolicy(choice: PcrChoice): Promise<Buffer> {
    return this.run((turn) => currentPolicy(turn, choice));
  }

  /** `size` bytes from the chip's random number generator. */
  entropy(size: number): Promise<Buffer> {
    return this.run(async (turn) => {
      const parts: Buffer[] = [];
      for (let missing = size; missing > 0;) {
        const { randomBytes: part } = await turn.execute(GetRandom, { bytesRequested: Math.min(missing, 32) }, { protect: true });
        if (part.length === 0) throw new ChipError(GetRandom.name, TPM_RC.FAILURE);
        parts.push(part);
        missing -= part.length;
      }
      return Buffer.concat(parts, size);
    });
  }

  /** A snapshot. */
  usage(): HardwareUsage {
    const { slots } = this.occupant;
    return {
      commands: this.chip.usage.counters(),
      host: this.account.counters(),
      slots: { ...slots.counters, ...slots.occupancy },
      pending: this.turns.pending,
    };
  }

  /** Finishes the jobs that wait, takes all that is tpmux's out of the chip's memory and closes the connection. */
  async close(): Promise<void> {
    const { chip } = this;
    clearInterval(this.watch);
    try {
      await this.run(async (turn) => {
        await turn.discard(() => true);
        await chip.endSession();
      });
    } catch (error) {
      if (!isChipGone(error)) throw error;
    } finally {
      await chip.close();
    }
  }
}

function connector(tcti: string): () => Promise<ChipTransport> {
  return () => Tcti.open(tcti);
}

/** The key for secrets below a guest's root. Part of a turn. */
async function createSecretsKey(turn: Turn, root: LoadableKey, stateKey: Buffer): Promise<KeyBlobs> {
  const authValue = guestAuthValue(stateKey);
  try {
    return await turn.use(root, (handle) =>
      createUnder(turn, { handle, name: root.name }, secretsKeyTemplate(root.publicArea), { authValue, data: NO_DATA }),
    );
  } finally {
    authValue.fill(0);
  }
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
