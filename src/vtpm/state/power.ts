// TPM 2.0 Library Part 1, 12.2: operational states, and Part 3, 9: what TPM2_Shutdown leaves for TPM2_Startup.
import { type Infer, list, sizedOrNull, struct, tpm2b, uint32, uint64, uint8 } from '../../tpm/schema.js';
import { section, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';
import { savedCounters } from './clock.js';
import { savedCommits, spent } from './commits.js';
import type { DurableState } from './durable.js';
import { savedHierarchies } from './hierarchies.js';
import { savedPcrs } from './pcr/pcrs.js';

const RECORD_KEY = 'shutdown';
export const savedState = struct({
  hierarchies: savedHierarchies,
  counters: savedCounters,
  pcrs: savedPcrs,
  pcrUpdateCounter: uint32,
  pcrGroupAuth: tpm2b(64),
  commandAuditDigest: tpm2b(64),
  commits: savedCommits,
  startupLocality: uint8,
  contextCounter: uint64,
  objectContexts: uint64,
  sessions: list(struct({ handle: uint32, contextId: uint64 }), 65536),
});
/** What Shutdown(STATE) keeps for the next startup. */
export type SavedState = Infer<typeof savedState>;
const record = struct({ version: uint8, orderly: uint8, daUsed: uint8, saved: sizedOrNull(savedState) });

/** Where the power cycle is. */
const cycle = section(
  'power',
  struct({ started: uint8, startupLocality: uint8, startedOrderly: uint8, established: uint8, failed: uint8 }),
);

/** How the last power cycle ended, and where the present one is. */
export class PowerState implements StateModule {
  /** Between `_TPM_Init` and the end of power. */
  powered = false;
  /** TPM2_Startup was successful. */
  started = false;
  /** Locality of TPM2_Startup, or 4 after an H-CRTM. */
  startupLocality = 0;
  /** A shutdown was the last thing that happened to the durable state. */
  orderly = true;
  /** What {@link orderly} was when TPM2_Startup came (TPMA_STARTUP_CLEAR `orderly`). */
  startedOrderly = true;
  /** An authorization under dictionary-attack protection was checked since the last startup or shutdown. */
  daUsed = false;
  /** What Shutdown(STATE) saved; null after Shutdown(CLEAR) or none. */
  saved: SavedState | null = null;
  /** Something that cannot be repaired happened; all commands are answered TPM_RC_FAILURE until power-on. */
  failed = false;
  /** The platform wants the next TPM2_SelfTest to fail. */
  failsSelfTest = false;
  /** TPM Established flag of the PC Client profile: a D-RTM sequence has run. */
  established = false;
  private readonly durable: DurableState;

  constructor(durable: DurableState) {
    this.durable = durable;
  }

  async load(): Promise<void> {
    const stored = await this.durable.load(RECORD_KEY, record);
    this.orderly = stored === undefined || stored.orderly !== 0;
    this.daUsed = stored !== undefined && stored.daUsed !== 0;
    this.saved = stored?.saved ?? null;
  }

  /** TPM2_Startup was successful: from now on, until a shutdown, the state is not orderly. */
  startup(locality: number): void {
    this.started = true;
    this.startupLocality = locality;
    this.startedOrderly = this.orderly;
    this.daUsed = false;
    this.orderly = false;
    this.saved = null;
    this.store();
  }

  /** TPM2_Shutdown. */
  shutdown(saved: SavedState | null): void {
    this.orderly = true;
    this.daUsed = false;
    this.saved = saved;
    this.store();
  }

  /** What Shutdown(STATE) saved may be older than what the guest had last: see {@link spent}. */
  spendCommits(): void {
    if (this.saved === null) return;
    this.saved = { ...this.saved, commits: spent(this.saved.commits) };
    this.store();
  }

  /** A change after a shutdown makes it void: from now on the state is not orderly. Costs a write only the first time. */
  disorder(): void {
    if (!this.orderly && this.saved === null) return;
    this.orderly = false;
    this.saved = null;
    this.store();
  }

  /**
   * Before an authorization under dictionary-attack protection is checked: if power is lost before its failure is recorded, the
   * next startup counts one. Costs a write only the first time.
   */
  useDictionaryAttack(): void {
    if (this.daUsed) return;
    this.daUsed = true;
    this.orderly = false;
    this.saved = null;
    this.store();
  }

  writeSections(writer: SectionWriter): void {
    const { started, startupLocality, startedOrderly, established, failed } = this;
    writer.one(
      cycle,
      () => ({
        started: Number(started),
        startupLocality,
        startedOrderly: Number(startedOrderly),
        established: Number(established),
        failed: Number(failed),
      }),
      [started, startupLocality, startedOrderly, established, failed],
    );
  }

  /** Power comes back to where it was. */
  readSections(reader: SectionReader): void {
    const { started, startupLocality, startedOrderly, established, failed } = reader.one(cycle);
    this.started = started !== 0;
    this.startupLocality = startupLocality;
    this.startedOrderly = startedOrderly !== 0;
    this.established = established !== 0;
    this.failed = failed !== 0;
  }

  private store(): void {
    const { orderly, daUsed, saved } = this;
    this.durable.put(RECORD_KEY, record, { version: 1, orderly: Number(orderly), daUsed: Number(daUsed), saved });
  }
}
