// TPM 2.0 Library Part 1, 17 (PCR operations) and PC Client Platform TPM Profile, 4.6 (PCR attributes).
import { IMPLEMENTATION_PCR, TPM_ALG } from '../../../tpm/constants/index.js';
import type { GuestProviders } from '../../../properties/provider-set/guest-providers.js';
import { ProviderSet } from '../../../properties/provider-set/provider-set.js';
import { PcrMatrix } from '../../../properties/matrix/matrix.js';
import type { MeasurementLog } from '../../../properties/measurement-log/measurement-log.js';
import type { Measurement } from '../../../properties/providers/provider.js';
import { type SavedMatrix, savedMatrix } from '../../../properties/matrix/saved-matrix.js';
import { struct, tpm2b, uint16, uint8 } from '../../../tpm/schema.js';
import { hash } from '../../../tpm/hash.js';
import { selectedPcrs } from '../../../tpm/pcr-bitmap.js';
import { TPML_PCR_SELECTION } from '../../../tpm/structures/index.js';
import type { SectionReader, SectionWriter, StateModule } from '../../persistence/section.js';
import type { DurableState } from '../durable.js';
import { PcrAllocation } from './pcr-allocation.js';
import { readPcrs, writePcrs } from './pcr-sections.js';

/** Attributes of a PCR: whether Shutdown(STATE) keeps it, and bit masks of the localities that may reset and extend it. */
interface PcrAttributes {
  readonly stateSave: boolean;
  readonly resetLocality: number;
  readonly extendLocality: number;
}

const staticPcr: PcrAttributes = { stateSave: true, resetLocality: 0x00, extendLocality: 0x1f };
const dynamicPcr = (resetLocality: number, extendLocality: number): PcrAttributes => ({ stateSave: false, resetLocality, extendLocality });

/** PCR 0 to 23. PCR 16 and 23 are for debugging and applications; 17 to 22 belong to the D-RTM. */
const attributes: readonly PcrAttributes[] = [
  ...Array.from({ length: 16 }, () => staticPcr),
  dynamicPcr(0x0f, 0x1f),
  dynamicPcr(0x10, 0x1c),
  dynamicPcr(0x10, 0x1c),
  dynamicPcr(0x10, 0x0c),
  dynamicPcr(0x14, 0x0e),
  dynamicPcr(0x14, 0x04),
  dynamicPcr(0x14, 0x04),
  dynamicPcr(0x0f, 0x1f),
];

/** PCRs whose change does not count for the policies of others (TPM_PT_PCR_NO_INCREMENT): the TCB group. */
const noIncrement: ReadonlySet<number> = new Set([16, 21, 22, 23]);
/** The PCR that a hardware core root of trust is measured into. */
const HCRTM_PCR = 0;
const LOCALITY_4 = 0x10;

const allBanks: readonly number[] = [TPM_ALG.SHA1, TPM_ALG.SHA256, TPM_ALG.SHA384, TPM_ALG.SHA512];

const RECORD_KEY = 'pcr-allocation';
const record = struct({ version: uint8, allocation: TPML_PCR_SELECTION });
const POLICY_KEY = 'pcr-policy';
const policyRecord = struct({ version: uint8, alg: uint16, policy: tpm2b(64) });
const noPolicy = { alg: TPM_ALG.NULL, policy: Buffer.alloc(0) };
/** What Shutdown(STATE) keeps. */
export const savedPcrs = savedMatrix;

const attributeAt = (index: number): PcrAttributes => attributes[index] ?? staticPcr;

/** The PCRs of one vTPM: attributes, localities, and the counter that policy sessions look at. */
export class Pcrs implements StateModule {
  private set: ProviderSet;
  private table: PcrMatrix;
  /** Incremented by every change that policies must notice (TPM2_PCR_Read `pcrUpdateCounter`). */
  updateCounter = 0;
  /** Authorization value of PCRs 20 to 22, which share one (TPM2_PCR_SetAuthValue). Without trailing zeros. */
  groupAuth: Buffer = Buffer.alloc(0);
  /** Authorization policy of the same PCRs (TPM2_PCR_SetAuthPolicy); `alg` is TPM_ALG_NULL if there is none. */
  groupPolicy: { readonly alg: number; readonly policy: Buffer } = noPolicy;
  /** Banks were changed since the last startup, so Shutdown(STATE) is refused. */
  reallocated = false;
  /** PCRs that exist now. */
  private current = PcrAllocation.whole(allBanks);
  /** PCRs that exist from the next power-on on. */
  private next = this.current;
  private readonly durable: DurableState;
  private readonly providers: GuestProviders | undefined;

  /** @param providers default: `digest` alone, as in an ordinary TPM */
  constructor(durable: DurableState, providers?: GuestProviders) {
    this.durable = durable;
    this.providers = providers;
    this.set = providers?.begin() ?? ProviderSet.ordinary();
    this.table = new PcrMatrix(IMPLEMENTATION_PCR, allBanks, this.set);
  }

  /** The property providers of this power cycle. */
  get providerSet(): ProviderSet {
    return this.set;
  }

  /** The provider whose vector the guest sees at a PCR index. */
  readonly presented = (index: number): string => this.set.presented(index);

  /** The provider whose vector TPM2_Quote takes at a PCR index. */
  readonly attested = (index: number): string => this.set.attested(index);

  get matrix(): PcrMatrix {
    return this.table;
  }

  async load(): Promise<void> {
    const saved = await this.durable.load(RECORD_KEY, record);
    if (saved !== undefined) this.next = PcrAllocation.of(saved.allocation);
    this.takeIntoUse(this.next);
    this.groupPolicy = (await this.durable.load(POLICY_KEY, policyRecord)) ?? noPolicy;
  }

  /** TPM2_PCR_SetAuthPolicy; without arguments there is none any more. */
  setGroupPolicy(alg: number = TPM_ALG.NULL, policy: Buffer = Buffer.alloc(0)): void {
    this.groupPolicy = { alg, policy };
    this.durable.put(POLICY_KEY, policyRecord, { version: 1, alg, policy });
  }

  /** TPM2_PCR_Allocate: what exists from the next power-on on. */
  allocate(allocation: PcrAllocation): void {
    this.next = allocation;
    this.reallocated = true;
    this.durable.put(RECORD_KEY, record, { version: 1, allocation: allocation.selection(allBanks) });
  }

  /** What exists now. */
  get allocation(): PcrAllocation {
    return this.current;
  }

  /** All implemented banks, allocated or not. */
  get implementedBanks(): readonly number[] {
    return allBanks;
  }

  /** Startup. A resume keeps what was saved of the static PCRs. After an H-CRTM its PCR keeps what was measured, except in a resume. */
  startup(kind: 'reset' | 'restart' | 'resume', locality: number, hcrtm: boolean, saved?: SavedMatrix): void {
    if (kind === 'reset') this.updateCounter = 0;
    if (kind === 'resume') this.goOnAs(saved);
    // The next banks are in use since power-on, before any H-CRTM.
    for (let index = 0; index < this.matrix.size; index++) {
      const { stateSave, resetLocality } = attributeAt(index);
      if (kind === 'resume' && stateSave) continue;
      this.changed(index);
      if (index === HCRTM_PCR && hcrtm) continue;
      if ((resetLocality & LOCALITY_4) !== 0) this.matrix.fill(index, 0xff);
      else if (index === HCRTM_PCR) this.matrix.setLocality(index, locality);
      else this.matrix.fill(index, 0);
    }
    if (kind === 'resume') this.restoreMatrix(saved, (index) => attributeAt(index).stateSave);
    else this.groupAuth = Buffer.alloc(0);
  }

  /** Whether commands from `locality` may extend the PCR. */
  extendAllowed(index: number, locality: number): boolean {
    return (attributeAt(index).extendLocality & (1 << locality)) !== 0;
  }

  /** Whether commands from `locality` may reset the PCR. Nobody may from locality 4: the D-RTM does it by other means. */
  resetAllowed(index: number, locality: number): boolean {
    return locality !== 4 && (attributeAt(index).resetLocality & (1 << locality)) !== 0;
  }

  /**
   * Extends a PCR in the banks that are allocated; locality has been checked. Resolves to false if a property provider refused the
   * measurement: it is extended all the same, so that what was refused cannot pass unnoticed.
   */
  async extend(measurement: Measurement): Promise<boolean> {
    const { index } = measurement;
    const digests = measurement.digests.filter(({ bank }) => this.current.has(bank, index));
    const accepted = await this.matrix.extend({ ...measurement, digests });
    for (let i = 0; i < digests.length; i++) this.changed(index);
    return accepted;
  }

  /** TPM2_PCR_Reset: to zero, or all ones for a PCR that only locality 4 resets. */
  reset(index: number): void {
    this.matrix.fill(index, 0);
    this.changed(index);
  }

  /** The PCRs that only a D-RTM resets become zero. */
  resetDynamic(): void {
    for (let index = 0; index < this.matrix.size; index++) {
      if ((attributeAt(index).resetLocality & LOCALITY_4) !== 0) this.matrix.fill(index, 0);
    }
  }

  /** Notes a change of a PCR. An extend counts once per bank, as in the reference code. */
  changed(index: number): void {
    if (!noIncrement.has(index)) this.updateCounter = (this.updateCounter + 1) >>> 0;
  }

  /** Whether PCR `index` has an authorization value of its own, by TPM2_PCR_SetAuthValue. */
  hasGroupAuth(index: number): boolean {
    return index >= 20 && index <= 22;
  }

  /** Whether PCR `index` can have an authorization policy, by TPM2_PCR_SetAuthPolicy. */
  hasGroupPolicy(index: number): boolean {
    return this.hasGroupAuth(index);
  }

  /** Whether a property of {@link pcrProperties} holds. */
  attribute(index: number): PcrAttributes & { readonly noIncrement: boolean } {
    return { ...attributeAt(index), noIncrement: noIncrement.has(index) };
  }

  /** For Shutdown(STATE). */
  save(): SavedMatrix {
    const { set } = this;
    return {
      vectors: this.matrix.save(),
      choice: set.choice,
      providers: set.saveStates(),
      log: set.log?.save() ?? Buffer.alloc(0),
    };
  }

  /** The measurement log, if there is one. */
  get log(): MeasurementLog | undefined {
    return this.set.log;
  }

  /** Which PCRs exist now, with those that do not. */
  get allocated(): TPML_PCR_SELECTION {
    return this.current.selection(allBanks);
  }

  writeSections(writer: SectionWriter): void {
    writePcrs(writer, this);
  }

  readSections(reader: SectionReader): void {
    const { allocation, values, updateCounter, groupAuth, reallocated } = readPcrs(reader);
    this.goOnAs(values);
    this.takeIntoUse(PcrAllocation.of(allocation));
    this.restoreMatrix(values, () => true);
    this.updateCounter = updateCounter;
    this.groupAuth = Buffer.from(groupAuth);
    this.reallocated = reallocated !== 0;
  }

  private takeIntoUse(allocation: PcrAllocation): void {
    this.current = allocation;
    this.matrix.allocate(allocation.banks);
  }

  /** Saved values are those of the providers of that time, whatever was chosen meanwhile: no vector can lack what was extended. */
  private goOnAs(saved: SavedMatrix | undefined): void {
    const { matrix, providers } = this;
    if (saved === undefined || providers === undefined) return;
    this.set = providers.goOn(saved);
    this.table = new PcrMatrix(matrix.size, matrix.banks, this.set);
  }

  private restoreMatrix(saved: SavedMatrix | undefined, wanted: (index: number) => boolean): void {
    if (saved !== undefined) this.matrix.restore(saved.vectors, wanted);
  }

  /** The selection without the PCRs that do not exist (Part 3, 22.4). */
  filter(selection: TPML_PCR_SELECTION): TPML_PCR_SELECTION {
    return this.current.filter(selection);
  }

  /** Names of the property providers, in the order in which they were configured. */
  get providerNames(): readonly string[] {
    return this.set.names;
  }

  /**
   * Digest over the selected PCRs, in order of the selection and ascending index (Part 1, 17.5). `vector` gives the provider whose value
   * counts at an index; default what the guest sees.
   */
  digestOf(selection: TPML_PCR_SELECTION, hashAlg: number, vector: (index: number) => string = this.presented): Buffer {
    const values: Buffer[] = [];
    for (const { hash: bank, pcrSelect } of this.filter(selection)) {
      for (const index of selectedPcrs(pcrSelect)) values.push(this.matrix.read(bank, index, vector(index)));
    }
    return hash(hashAlg, ...values);
  }
}
