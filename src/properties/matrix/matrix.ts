import { hash as hashOnce } from 'node:crypto';
import { digestSize, hashName } from '../../tpm/hash.js';
import type { SavedVector } from './saved-matrix.js';
import type { BankDigest, MatrixEvent, MatrixObserver, MatrixView, Measurement, NamedProvider } from '../providers/provider.js';
import { fixedValue } from '../../statements/fixed-value.js';

/** The PCRs of one provider in one bank: all values side by side, and a view of each. */
interface Column {
  readonly values: Buffer;
  readonly cells: readonly Buffer[];
}

/** One bank of all providers. */
interface Bank {
  readonly alg: number;
  readonly name: string;
  readonly width: number;
  /** By provider. */
  readonly columns: readonly Column[];
  /** Room for what is hashed: a PCR's value and a digest. */
  readonly scratch: Buffer;
}

/** A provider's answer that counts, and whether it was a refusal. */
interface Answer {
  readonly digests: readonly Uint8Array[];
  readonly refused: boolean;
}

/** What the matrix tells of a provider that failed; nothing in it is secret. */
export type ProviderFailed = (provider: string, error: unknown) => void;

/** What a matrix needs of its providers; it never changes. */
export interface MatrixProviders {
  /** All of them distinct in name, at least one. */
  readonly providers: readonly NamedProvider[];
  /** The provider whose value the guest sees at a PCR index. */
  readonly presented: (index: number) => string;
  /** Is told when a provider throws. */
  readonly failed: ProviderFailed;
  /** Watches all changes. */
  readonly observer: MatrixObserver | undefined;
}

/**
 * The matrix of virtual PCRs of one guest: a vector of PCRs per property provider, over the same banks.
 * An extend goes to every vector; one of them is presented to the guest at each index.
 */
export class PcrMatrix implements MatrixView {
  /** PCRs per bank. */
  readonly size: number;
  private readonly providers: readonly NamedProvider[];
  private allocated: Bank[] = [];
  /**
   * By provider and PCR: whether the PCR equals that of the first provider in all banks. It saves hashing the same twice for
   * providers that translate like the first one.
   */
  private twins: boolean[][] = [];
  /** By PCR: how often its values have changed. */
  private revisions: number[];
  private changes = 0;

  constructor(
    size: number,
    banks: readonly number[],
    private readonly set: MatrixProviders,
  ) {
    this.size = size;
    this.providers = set.providers;
    this.revisions = new Array<number>(size).fill(0);
    this.allocate(banks);
  }

  /** Hash algorithms of the banks that exist. */
  get banks(): readonly number[] {
    return this.allocated.map(({ alg }) => alg);
  }

  /** Names of the providers, in the order in which they are asked. */
  get providerNames(): string[] {
    return this.providers.map(({ name }) => name);
  }

  /** Takes other banks into use; all values are zero afterwards. */
  allocate(banks: readonly number[]): void {
    this.allocated = banks.map((alg) => {
      const width = digestSize(alg);
      return {
        alg,
        name: hashName(alg),
        width,
        columns: this.providers.map(() => column(this.size, width)),
        scratch: Buffer.alloc(2 * width),
      };
    });
    this.twins = this.providers.map(() => new Array<boolean>(this.size).fill(true));
    this.changedAll();
    this.observe({ kind: 'allocated' });
  }

  /** The value that the guest sees, or that of `provider`; a view. Bank and provider must exist. */
  read(bank: number, index: number, provider?: string): Buffer {
    const name = provider ?? this.set.presented(index);
    const value = this.readVector(name, bank, index);
    if (value === undefined) throw new RangeError(`no PCR ${index.toString()} of ${name} in bank ${bank.toString()}`);
    return value;
  }

  /** The value in one provider's vector; a view. Undefined if there is no such provider, bank or PCR. */
  readVector(provider: string, bank: number, index: number): Buffer | undefined {
    const position = this.providers.findIndex(({ name }) => name === provider);
    return this.allocated.find(({ alg }) => alg === bank)?.columns[position]?.cells[index];
  }

  /**
   * `vPCR_j[i] := H(vPCR_j[i] || translate_j(i, d))` for every provider j. Banks that do not exist are passed over. Gives false, at
   * once or as a promise, if a provider refused; all vectors are extended then too, that provider's with its fixed value.
   * Nothing changes before all providers have answered. Extends must not overlap.
   */
  extend(measurement: Measurement): boolean | Promise<boolean> {
    const known = this.allocatedOnly(measurement);
    if (known.digests.length === 0) return true;
    const answers: (Answer | Promise<Answer>)[] = [];
    let waits = false;
    for (const { name, provider } of this.providers) {
      const answer = this.ask(name, provider, known);
      if (answer instanceof Promise) waits = true;
      answers.push(answer);
    }
    if (!waits) return this.apply(known, answers as Answer[]);
    return Promise.all(answers.map((answer) => Promise.resolve(answer))).then((all) => this.apply(known, all));
  }

  /** Sets every byte of a PCR in all banks and vectors, as a reset does; providers' start values follow. */
  fill(index: number, byte: number): void {
    this.initialize(index, (cell) => cell.fill(byte));
  }

  /** As {@link fill} with zero, except for the last byte, which tells the locality of TPM2_Startup. */
  setLocality(index: number, locality: number): void {
    this.initialize(index, (cell) => {
      cell.fill(0);
      cell[cell.length - 1] = locality;
    });
  }

  /** Rises whenever a value may have changed; of one PCR, or of any. */
  revision(index?: number): number {
    return index === undefined ? this.changes : (this.revisions[index] ?? 0);
  }

  /** The values of one PCR in all vectors, side by side: by provider, then by bank. */
  valuesOf(index: number): Buffer {
    return Buffer.concat(
      this.providers.flatMap((_, position) => this.allocated.map(({ columns }) => columns[position]?.cells[index] ?? Buffer.alloc(0))),
    );
  }

  /** All values, to be given to {@link restore}; by provider and bank. */
  save(): SavedVector[] {
    return this.providers.flatMap(({ name }, position) =>
      this.allocated.map(({ alg, columns }) => ({
        provider: Buffer.from(name),
        bank: alg,
        values: Buffer.from(columns[position]?.values ?? []),
      })),
    );
  }

  /** Puts back the values of the PCRs for which `wanted` holds; providers and banks that no longer exist are passed over. */
  restore(saved: readonly SavedVector[], wanted: (index: number) => boolean): void {
    for (const { provider, bank, values } of saved) {
      const position = this.providers.findIndex(({ name }) => name === provider.toString());
      const found = this.allocated.find(({ alg }) => alg === bank);
      const mine = found?.columns[position]?.values;
      if (found === undefined || mine?.length !== values.length) continue;
      for (let index = 0; index < this.size; index++) {
        if (wanted(index)) values.copy(mine, index * found.width, index * found.width, (index + 1) * found.width);
      }
    }
    this.findTwins();
    this.changedAll();
    this.observe({ kind: 'restored', wanted });
  }

  private allocatedOnly(measurement: Measurement): Measurement {
    const exists = ({ bank }: BankDigest): boolean => this.allocated.some(({ alg }) => alg === bank);
    return measurement.digests.every(exists) ? measurement : { ...measurement, digests: measurement.digests.filter(exists) };
  }

  private ask(name: string, provider: NamedProvider['provider'], measurement: Measurement): Answer | Promise<Answer> {
    const failure = (error: unknown): Answer => {
      this.set.failed(name, error);
      return { digests: measurement.digests.map(({ bank }) => fixedValue(bank, 'failed')), refused: false };
    };
    try {
      const translation = provider.extend(measurement);
      if (!(translation instanceof Promise)) return checked(measurement, translation);
      return translation.then((given) => checked(measurement, given)).catch(failure);
    } catch (error) {
      return failure(error);
    }
  }

  private apply(measurement: Measurement, answers: readonly Answer[]): boolean {
    this.changed(measurement.index);
    this.observe({ kind: 'extend', measurement, translated: answers.map(({ digests }) => digests) });
    measurement.digests.forEach(({ bank }, at) => {
      const into = this.allocated.find(({ alg }) => alg === bank);
      if (into === undefined) return;
      answers.forEach(({ digests }, position) => {
        const digest = digests[at];
        if (digest === undefined) return;
        const twin = position > 0 && this.isTwin(position, measurement.index) && digest === answers[0]?.digests[at];
        const cell = into.columns[position]?.cells[measurement.index];
        if (twin && cell !== undefined) into.columns[0]?.cells[measurement.index]?.copy(cell);
        else extendCell(into, cell, digest);
      });
    });
    answers.forEach(({ digests }, position) => {
      const same = digests.every((digest, at) => digest === answers[0]?.digests[at]);
      if (!same) this.setTwin(position, measurement.index, false);
    });
    return answers.every(({ refused }) => !refused);
  }

  private initialize(index: number, set: (cell: Buffer) => void): void {
    for (const { columns } of this.allocated) {
      for (const { cells } of columns) {
        const cell = cells[index];
        if (cell !== undefined) set(cell);
      }
    }
    for (const position of this.providers.keys()) this.setTwin(position, index, true);
    this.changed(index);
    this.observe({ kind: 'reset', index });
    const digests = this.providers.map(({ provider }) => this.allocated.map(({ alg }) => provider.start?.(index, alg)));
    if (!digests.some((ofProvider) => ofProvider.some((digest) => digest !== undefined))) return;
    this.observe({ kind: 'start', index, digests });
    digests.forEach((ofProvider, position) => {
      ofProvider.forEach((digest, at) => {
        const into = this.allocated[at];
        if (digest === undefined || into === undefined) return;
        extendCell(into, into.columns[position]?.cells[index], digest);
        this.setTwin(position, index, false);
      });
    });
  }

  private changed(index: number): void {
    this.changes++;
    this.revisions[index] = this.changes;
  }

  private changedAll(): void {
    this.changes++;
    this.revisions = this.revisions.map(() => this.changes);
  }

  private isTwin(position: number, index: number): boolean {
    return this.twins[position]?.[index] === true;
  }

  private setTwin(position: number, index: number, value: boolean): void {
    // Nothing equals a first provider that has a start value of its own.
    const of = position === 0 && !value ? this.twins : [this.twins[position]];
    for (const flags of of) if (flags !== undefined) flags[index] = value;
  }

  private findTwins(): void {
    this.twins = this.providers.map((_, position) =>
      Array.from({ length: this.size }, (__, index) =>
        this.allocated.every(({ columns }) => {
          const mine = columns[position]?.cells[index];
          const first = columns[0]?.cells[index];
          return mine !== undefined && first !== undefined && mine.equals(first);
        }),
      ),
    );
  }

  private observe(event: MatrixEvent): void {
    const { observer } = this.set;
    try {
      observer?.observe(event, this);
    } catch (error) {
      this.set.failed(observer?.name ?? '', error);
    }
  }
}

function column(size: number, width: number): Column {
  const values = Buffer.alloc(size * width);
  return { values, cells: Array.from({ length: size }, (_, index) => values.subarray(index * width, (index + 1) * width)) };
}

function extendCell({ name, width, scratch }: Bank, cell: Buffer | undefined, digest: Uint8Array): void {
  if (cell === undefined) return;
  cell.copy(scratch);
  scratch.set(digest, width);
  hashOnce(name, scratch, 'buffer').copy(cell);
}

/** Throws a TypeError if a provider's answer is no translation of `measurement`. */
function checked(measurement: Measurement, translation: unknown): Answer {
  if (translation === 'refused') {
    return { digests: measurement.digests.map(({ bank }) => fixedValue(bank, 'refused')), refused: true };
  }
  if (!Array.isArray(translation) || translation.length !== measurement.digests.length) throw new TypeError('not a translation');
  for (let at = 0; at < translation.length; at++) {
    const digest: unknown = translation[at];
    if (!(digest instanceof Uint8Array) || digest.length !== measurement.digests[at]?.digest.length) {
      throw new TypeError('a digest in the translation is missing or has a wrong size');
    }
  }
  return { digests: translation as Uint8Array[], refused: false };
}
