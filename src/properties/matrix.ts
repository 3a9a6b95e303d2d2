import { digestSize, hash } from '../tpm/hash.js';
import type { Measurement, PropertyProvider } from './provider.js';

/** The PCRs of one provider: for each bank one buffer with all values side by side. */
type Vector = Map<number, Buffer>;

/**
 * The matrix of virtual PCRs of one guest: a vector of PCRs per property provider, over the same banks.
 * An extend goes to every vector; one of them is presented to the guest at each index.
 */
export class PcrMatrix {
  /** PCRs per bank. */
  readonly size: number;
  private readonly providers: readonly PropertyProvider[];
  private readonly vectors = new Map<string, Vector>();
  private readonly presented: (index: number) => string;
  private allocated: number[];

  /**
   * @param providers all of them distinct in name, at least one
   * @param presented the provider whose value the guest sees at a PCR index
   */
  constructor(size: number, banks: readonly number[], providers: readonly PropertyProvider[], presented: (index: number) => string) {
    this.size = size;
    this.providers = providers;
    this.presented = presented;
    this.allocated = [...banks];
    this.allocate(banks);
  }

  /** Hash algorithms of the banks that exist. */
  get banks(): readonly number[] {
    return this.allocated;
  }

  /** Names of the providers, in the order in which they are asked. */
  get providerNames(): string[] {
    return this.providers.map((provider) => provider.name);
  }

  /** Takes other banks into use; all values are zero afterwards. */
  allocate(banks: readonly number[]): void {
    this.allocated = [...banks];
    for (const { name } of this.providers) {
      this.vectors.set(name, new Map(this.allocated.map((bank) => [bank, Buffer.alloc(digestSize(bank) * this.size)])));
    }
  }

  /** The value that the guest sees; a view. The bank must exist. */
  read(bank: number, index: number): Buffer {
    return this.cell(this.presented(index), bank, index);
  }

  /** The value in one provider's vector; a view. Undefined if there is no such provider or bank. */
  readVector(provider: string, bank: number, index: number): Buffer | undefined {
    return this.vectors.get(provider)?.has(bank) === true ? this.cell(provider, bank, index) : undefined;
  }

  /** `vPCR_j[i] := H(vPCR_j[i] || translate_j(i, d))` for every provider j. Banks that do not exist are passed over. */
  extend(measurement: Measurement): void {
    if (!this.allocated.includes(measurement.bank)) return;
    for (const provider of this.providers) {
      const cell = this.cell(provider.name, measurement.bank, measurement.index);
      hash(measurement.bank, cell, provider.translate(measurement)).copy(cell);
    }
  }

  /** Sets every byte of a PCR in all banks and vectors, as a reset does. */
  fill(index: number, byte: number): void {
    this.each(index, (cell) => cell.fill(byte));
  }

  /** Sets a PCR of all vectors to zero except for its last byte, which tells the locality of TPM2_Startup. */
  setLocality(index: number, locality: number): void {
    this.each(index, (cell) => {
      cell.fill(0);
      cell[cell.length - 1] = locality;
    });
  }

  /** Everything, to be given to {@link restore}; the layout is by provider, bank and index. */
  save(): { provider: string; bank: number; values: Buffer }[] {
    return this.providers.flatMap(({ name }) =>
      [...(this.vectors.get(name) ?? [])].map(([bank, values]) => ({ provider: name, bank, values: Buffer.from(values) })),
    );
  }

  /** Puts back the values of the PCRs for which `wanted` holds; providers and banks that no longer exist are passed over. */
  restore(saved: readonly { provider: string; bank: number; values: Buffer }[], wanted: (index: number) => boolean): void {
    for (const { provider, bank, values } of saved) {
      const mine = this.vectors.get(provider)?.get(bank);
      if (mine?.length !== values.length) continue;
      const width = digestSize(bank);
      for (let index = 0; index < this.size; index++) {
        if (wanted(index)) values.copy(mine, index * width, index * width, (index + 1) * width);
      }
    }
  }

  private each(index: number, change: (cell: Buffer) => void): void {
    for (const { name } of this.providers) {
      for (const bank of this.allocated) change(this.cell(name, bank, index));
    }
  }

  private cell(provider: string, bank: number, index: number): Buffer {
    const values = this.vectors.get(provider)?.get(bank);
    if (values === undefined || index >= this.size) throw new RangeError(`no PCR ${index.toString()} of ${provider} in bank ${bank.toString()}`);
    const width = digestSize(bank);
    return values.subarray(index * width, (index + 1) * width);
  }
}
