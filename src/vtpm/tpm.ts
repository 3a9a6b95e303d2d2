import type { KeyManagement } from '../keys/key-management.js';
import type { GuestProviders } from '../properties/provider-set/guest-providers.js';
import type { GuestRecords } from '../store/guest-records.js';
import type { StateJournal } from '../store/state-journal.js';
import { RandomSource } from '../crypto/random.js';
import { MAX_COMMAND_SIZE } from '../tpm/constants/index.js';
import type { Limits } from './limits.js';
import type { Origin, SectionReader, StateModule } from './persistence/section.js';
import { AlgorithmSet } from './state/algorithm-set.js';
import { Clock } from './state/clock.js';
import { CommandAudit } from './state/command-audit.js';
import { Commits } from './state/commits.js';
import { Drtm } from './state/drtm.js';
import { DictionaryAttack } from './state/dictionary-attack.js';
import { DurableState } from './state/durable.js';
import { FailedAuthorizations } from './state/failed-authorizations.js';
import { Generation } from './state/generation.js';
import { Hierarchies } from './state/hierarchies.js';
import { NvMemory } from './state/nv.js';
import { TransientObjects } from './state/objects.js';
import { PcrLog } from './state/pcr/pcr-log.js';
import { Pcrs } from './state/pcr/pcrs.js';
import { PhysicalPresence } from './physical-presence.js';
import { PersistentObjects } from './state/persistent-objects.js';
import { PowerState } from './state/power.js';
import { PrimaryRecords } from './state/primary-records.js';
import { Sessions } from './state/sessions.js';

/** What a vTPM is made of. */
export interface TpmParts {
  readonly records: GuestRecords;
  readonly keys: KeyManagement;
  readonly limits: Limits;
  /** The guest's identity, which its state blobs are bound to. */
  readonly guestId?: string;
  /** Where its volatile state is kept; default: in memory, so that it ends with the process. */
  readonly journal?: StateJournal | undefined;
  /** Whether an older state of the guest may be put back, as by a snapshot of its machine; default: no. */
  readonly snapshots?: () => boolean;
  /** What drives its PCRs; default: `digest` alone. */
  readonly properties?: GuestProviders | undefined;
}

/** All state of one guest's TPM. Handlers read and change it; the dispatcher runs one command at a time. */
export class Tpm {
  readonly limits: Limits;
  readonly keys: KeyManagement;
  readonly random = new RandomSource();
  readonly durable: DurableState;
  readonly hierarchies: Hierarchies;
  readonly clock: Clock;
  readonly dictionaryAttack: DictionaryAttack;
  readonly commandAudit: CommandAudit;
  readonly algorithmSet: AlgorithmSet;
  readonly commits = new Commits();
  readonly drtm = new Drtm();
  /** Outlives the power cycles of the guest. */
  readonly pcrLog: PcrLog;
  readonly pcrs: Pcrs;
  readonly sessions: Sessions;
  readonly objects: TransientObjects;
  readonly persistent: PersistentObjects;
  readonly primaries: PrimaryRecords;
  readonly nv: NvMemory;
  readonly power: PowerState;
  readonly generation: Generation;
  readonly failedAuthorizations = new FailedAuthorizations();
  readonly presence: PhysicalPresence;
  /** All parts, in the order in which they are loaded and put back. */
  readonly modules: readonly StateModule[];
  /** Largest command and response that the guest is told of, in bytes: `GuestTpm.bufferSize`. */
  bufferSize = MAX_COMMAND_SIZE;

  constructor({ records, keys, limits, properties }: TpmParts, pcrLog = new PcrLog()) {
    this.pcrLog = pcrLog;
    this.limits = limits;
    this.keys = keys;
    this.durable = new DurableState(records);
    this.generation = new Generation(this.durable);
    this.hierarchies = new Hierarchies(this.durable);
    this.clock = new Clock(this.durable);
    this.dictionaryAttack = new DictionaryAttack(this.durable, this.clock);
    this.commandAudit = new CommandAudit(this.durable);
    this.algorithmSet = new AlgorithmSet(this.durable);
    this.pcrs = new Pcrs(this.durable, properties);
    this.sessions = new Sessions(limits);
    this.objects = new TransientObjects(limits, keys);
    this.persistent = new PersistentObjects(this.durable, keys, limits);
    this.primaries = new PrimaryRecords(this.durable, keys, limits);
    this.nv = new NvMemory(this.durable, limits);
    this.power = new PowerState(this.durable);
    this.presence = new PhysicalPresence(this.durable);
    this.modules = [
      this.generation,
      this.hierarchies,
      this.clock,
      this.power,
      this.presence,
      this.dictionaryAttack,
      this.commandAudit,
      this.algorithmSet,
      this.commits,
      this.drtm,
      this.pcrs,
      this.sessions,
      this.objects,
      this.persistent,
      this.primaries,
      this.nv,
      this.failedAuthorizations,
    ];
  }

  /** Reads all that is durable. A TPM that is new writes its first state. */
  async load(): Promise<void> {
    for (const module of this.modules) await module.load?.();
    if (this.durable.dirty) await this.durable.commit();
  }

  /** Puts back what is lost with power, after {@link load}. Rejects with a `TpmError` or a RangeError if something is missing or damaged. */
  async putBack(reader: SectionReader, origin: Origin): Promise<void> {
    for (const module of this.modules) await module.readSections?.(reader, origin);
  }
}
