// TPM 2.0 Library Part 1, 37 (NV memory) and Part 2, 13 (NV structures).
import { nvType, TPM_NT, TPMA_NV } from '../../tpm/constants/index.js';
import { nameOfNvPublic } from '../../tpm/name.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { type Infer, struct, tpm2b, uint8 } from '../../tpm/schema.js';
import { TPMS_NV_PUBLIC } from '../../tpm/structures/index.js';
import type { Limits } from '../limits.js';
import { sectionFamily, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';
import type { DurableState } from './durable.js';

/** An NV index. `publicArea` is replaced, never changed in place, so that {@link name} can be remembered. */
export interface NvIndex {
  readonly handle: number;
  publicArea: TPMS_NV_PUBLIC;
  /** Without trailing zeros. */
  authValue: Buffer;
  /** `publicArea.dataSize` bytes; counters, bits and PINs are 8 bytes, big-endian. */
  data: Buffer;
  /** Rises with every change that {@link NvMemory} is told of. */
  revision: number;
}

/** Counters and `pinCount`s by handle, and what every counter that was deleted had at most. */
export interface NvCounts {
  readonly counters: ReadonlyMap<number, bigint>;
  readonly pinCounts: ReadonlyMap<number, number>;
  readonly maxCounter: bigint;
}

/** How far an orderly counter may run ahead of its durable value (TPM_PT_ORDERLY_COUNT). One less than a power of two. */
export const ORDERLY_COUNT = 0xffn;

const PREFIX = 'nv/';
const record = struct({ version: uint8, publicArea: TPMS_NV_PUBLIC, authValue: tpm2b(64), data: tpm2b(2048) });
type StoredNvIndex = Infer<typeof record>;
/** The orderly indices by their handles: they may be ahead of their records. */
const orderlyIndices = sectionFamily(PREFIX, record);
const COUNTER_KEY = 'nv-max-counter';
const counterRecord = struct({ value: tpm2b(8) });

const keyOf = (handle: number): string => PREFIX + handle.toString(16).padStart(8, '0');

/** Whether all bits of `mask` are set in the index's attributes. */
export function nvHas(index: NvIndex, mask: number): boolean {
  return (index.publicArea.attributes & mask) >>> 0 === mask >>> 0;
}

/** Whether the index is of PIN type, where only a read operation may use its authValue. */
export function isPin(index: NvIndex): boolean {
  const type = nvType(index.publicArea.attributes);
  return type === TPM_NT.PIN_FAIL || type === TPM_NT.PIN_PASS;
}

/** What bytes are that were never written: ones, as in erased flash memory; zeros in orderly indices, and in PINs, where zero gives no access. */
function erasedByte({ attributes }: TPMS_NV_PUBLIC): number {
  return nvType(attributes) === TPM_NT.ORDINARY && (attributes & TPMA_NV.ORDERLY) === 0 ? 0xff : 0;
}

function isCounter(index: NvIndex): boolean {
  return nvType(index.publicArea.attributes) === TPM_NT.COUNTER;
}

function stored({ publicArea, authValue, data }: NvIndex): StoredNvIndex {
  return { version: 1, publicArea, authValue, data };
}

/** Attributes that a TPM restart or reset clears. */
function startupClears(index: NvIndex, reset: boolean): number {
  const losesData = !isCounter(index) && (nvHas(index, TPMA_NV.CLEAR_STCLEAR) || (reset && nvHas(index, TPMA_NV.ORDERLY)));
  const written = nvHas(index, TPMA_NV.WRITTEN) && !losesData;
  const staysLocked = written && nvHas(index, TPMA_NV.WRITEDEFINE);
  return TPMA_NV.READLOCKED | (losesData ? TPMA_NV.WRITTEN : 0) | (staysLocked ? 0 : TPMA_NV.WRITELOCKED);
}

/** The NV indices of one vTPM. */
export class NvMemory implements StateModule {
  private readonly indices = new Map<number, NvIndex>();
  private readonly names = new WeakMap<TPMS_NV_PUBLIC, Buffer>();
  /** No counter that was deleted ever had a higher value; a new counter starts above (Part 1, 37.2.4). */
  private maxCounter = 0n;
  private readonly limits: Limits;
  private readonly durable: DurableState;

  constructor(durable: DurableState, limits: Limits) {
    this.durable = durable;
    this.limits = limits;
  }

  async load(): Promise<void> {
    this.indices.clear();
    for (const [, index] of await this.durable.loadAll(PREFIX, record)) this.take(index);
    const counter = await this.durable.load(COUNTER_KEY, counterRecord);
    this.maxCounter = counter?.value.readBigUInt64BE() ?? 0n;
  }

  find(handle: number): NvIndex | undefined {
    return this.indices.get(handle);
  }

  /** Handles of all indices, ascending. */
  get handles(): number[] {
    return [...this.indices.keys()].sort((a, b) => a - b);
  }

  /** All indices, in no order. */
  get all(): Iterable<NvIndex> {
    return this.indices.values();
  }

  /** Number of counters (TPM_PT_NV_COUNTERS). */
  get counters(): number {
    return [...this.indices.values()].filter(isCounter).length;
  }

  nameOf(index: NvIndex): Buffer {
    let name = this.names.get(index.publicArea);
    if (name === undefined) {
      name = nameOfNvPublic(index.publicArea);
      this.names.set(index.publicArea, name);
    }
    return name;
  }

  /** Adds an index; both values are copied. `TPM_RC_NV_SPACE` if a limit is met. The caller has checked that the handle is free. */
  define(publicArea: TPMS_NV_PUBLIC, authValue: Buffer): void {
    const { nvIndex: handle, dataSize } = publicArea;
    const used = [...this.indices.values()].reduce((sum, { data }) => sum + data.length, 0);
    if (this.indices.size >= this.limits.nvIndices || used + dataSize > this.limits.nvBytes) throw new TpmError(TPM_RC.NV_SPACE);
    const index: NvIndex = {
      handle,
      publicArea: { ...publicArea, authPolicy: Buffer.from(publicArea.authPolicy) },
      authValue: Buffer.from(authValue),
      data: Buffer.alloc(dataSize, erasedByte(publicArea)),
      revision: 0,
    };
    this.indices.set(handle, index);
    this.store(index);
  }

  undefine(index: NvIndex): void {
    if (isCounter(index) && nvHas(index, TPMA_NV.WRITTEN)) this.noteCounter(index.data.readBigUInt64BE());
    this.indices.delete(index.handle);
    this.durable.delete(keyOf(index.handle));
    index.authValue.fill(0);
    index.data.fill(0);
  }

  /** Sets attributes, durably: a lock of an orderly index that is set after the shutdown must be there after a resume. */
  setAttributes(index: NvIndex, set: number): void {
    if (this.replaceAttributes(index, set, 0)) this.store(index);
  }

  /**
   * Writes data, within the index's size, and sets TPMA_NV_WRITTEN. What the first write leaves out is erased. The value of an orderly counter
   * becomes durable with the first increment and then once in {@link ORDERLY_COUNT} + 1, see {@link startup}.
   */
  write(index: NvIndex, offset: number, bytes: Uint8Array): void {
    const first = this.replaceAttributes(index, TPMA_NV.WRITTEN, 0);
    if (first && nvType(index.publicArea.attributes) === TPM_NT.ORDINARY) index.data.fill(erasedByte(index.publicArea));
    index.data.set(bytes, offset);
    const milestone = isCounter(index) && (first || (index.data.readBigUInt64BE() & ORDERLY_COUNT) === 0n);
    if (milestone) this.store(index);
    else this.changed(index);
  }

  /** Sets `pinCount` of a PIN index (TPMS_NV_PIN_COUNTER_PARAMETERS). */
  setPinCount(index: NvIndex, pinCount: number): void {
    index.data.writeUInt32BE(pinCount, 0);
    this.changed(index);
  }

  /** Replaces the authValue, durably. */
  changeAuth(index: NvIndex, authValue: Buffer): void {
    index.authValue.fill(0);
    index.authValue = Buffer.from(authValue);
    this.store(index);
  }

  /**
   * TPM2_Startup. A resume changes nothing. A restart and a reset undo what lasts until then (Part 1, 37.2.5); data of orderly indices does not
   * survive a reset, except in counters, which move past every value that they can have had if the shutdown was not `orderly`.
   */
  startup(kind: 'reset' | 'restart' | 'resume', orderly: boolean): void {
    if (kind === 'resume') return;
    for (const index of this.indices.values()) {
      if (this.replaceAttributes(index, 0, startupClears(index, kind === 'reset'))) this.changed(index);
      if (orderly || !isCounter(index) || !nvHas(index, TPMA_NV.ORDERLY)) continue;
      index.data.writeBigUInt64BE(index.data.readBigUInt64BE() | ORDERLY_COUNT);
      index.revision++;
    }
  }

  /** Records a change of data, attributes or authValue. An orderly index waits for an orderly shutdown, see {@link storeOrderly}. */
  changed(index: NvIndex): void {
    index.revision++;
    if (!nvHas(index, TPMA_NV.ORDERLY)) this.store(index);
  }

  /** Makes an index durable now, orderly or not. */
  store(index: NvIndex): void {
    index.revision++;
    this.durable.put(keyOf(index.handle), record, stored(index));
  }

  /** Shutdown: the data of orderly indices becomes durable. */
  storeOrderly(): void {
    for (const index of this.indices.values()) if (nvHas(index, TPMA_NV.ORDERLY)) this.store(index);
  }

  /** Indices that may be ahead of their records. */
  get orderly(): NvIndex[] {
    return [...this.indices.values()].filter((index) => nvHas(index, TPMA_NV.ORDERLY));
  }

  writeSections(writer: SectionWriter): void {
    writer.each(orderlyIndices, () =>
      this.orderly.map((index) => ({
        rest: index.handle.toString(),
        mark: [index, index.revision],
        take: () => stored(index),
      })),
    );
  }

  /** What must not go back when an older state is put in place. `jump` is whether orderly counters may be ahead of what is known of them. */
  counts(jump: boolean): NvCounts {
    const counters = new Map<number, bigint>();
    const pinCounts = new Map<number, number>();
    for (const index of this.indices.values()) {
      if (!nvHas(index, TPMA_NV.WRITTEN)) continue;
      const ahead = jump && nvHas(index, TPMA_NV.ORDERLY) ? ORDERLY_COUNT : 0n;
      if (isCounter(index)) counters.set(index.handle, index.data.readBigUInt64BE() | ahead);
      else if (isPin(index)) pinCounts.set(index.handle, index.data.readUInt32BE());
    }
    return { counters, pinCounts, maxCounter: this.maxCounter };
  }

  /** No counter and no `pinCount` is below what it was. A counter that had been deleted goes on above all that were. */
  keepForward({ counters, pinCounts, maxCounter }: NvCounts): void {
    this.noteCounter(maxCounter);
    for (const [handle, value] of counters) if (this.find(handle) === undefined) this.noteCounter(value);
    for (const index of this.indices.values()) {
      if (isCounter(index) && nvHas(index, TPMA_NV.WRITTEN)) this.raise(index, counters.get(index.handle) ?? maxCounter);
      const count = pinCounts.get(index.handle) ?? 0;
      if (isPin(index) && index.data.readUInt32BE() < count) this.setPinCount(index, count);
    }
  }

  private raise(index: NvIndex, value: bigint): void {
    if (index.data.readBigUInt64BE() >= value) return;
    index.data.writeBigUInt64BE(value);
    this.store(index);
  }

  /** An index that is not there any more stays so. */
  readSections(reader: SectionReader): void {
    for (const [, index] of reader.each(orderlyIndices)) if (this.indices.has(index.publicArea.nvIndex)) this.take(index);
  }

  /** Value that a new counter's first increment gives: above that of every counter that was deleted. */
  get firstCount(): bigint {
    return this.maxCounter + 1n;
  }

  /** Puts an index in place as it was stored; its values are copied. */
  private take({ publicArea, authValue, data }: StoredNvIndex): void {
    const { nvIndex: handle } = publicArea;
    this.indices.set(handle, { handle, publicArea, authValue: Buffer.from(authValue), data: Buffer.from(data), revision: 0 });
  }

  /** Whether that changed anything. */
  private replaceAttributes(index: NvIndex, set: number, clear: number): boolean {
    const attributes = ((index.publicArea.attributes & ~clear) | set) >>> 0;
    if (attributes === index.publicArea.attributes) return false;
    index.publicArea = { ...index.publicArea, attributes };
    return true;
  }

  private noteCounter(value: bigint): void {
    if (value <= this.maxCounter) return;
    this.maxCounter = value;
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    this.durable.put(COUNTER_KEY, counterRecord, { value: bytes });
  }
}
