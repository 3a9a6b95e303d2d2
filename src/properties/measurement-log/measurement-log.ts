// The measurement log of one guest: what was extended and what each provider made of it, bounded, and from what values it replays.
import { list, struct, tpm2b, uint16, uint32, uint8, type Infer } from '../../tpm/schema.js';
import { digestSize } from '../../tpm/hash.js';
import { Reader, Writer } from '../../tpm/wire.js';
import { longBytes } from '../long-bytes.js';
import type { MatrixView, Measurement } from '../providers/provider.js';

/** Bytes that the log of one guest takes at most, unless told otherwise. */
export const DEFAULT_LOG_SIZE = 4 * 1024 * 1024;
/** Entries of one PCR are dropped in pieces of this size, so that the values to replay from need no hashing. */
const CHUNK_SIZE = 64 * 1024;
/** A piece begins with this size and grows in two steps: most PCRs have few entries, and growing costs. */
const FIRST_SIZE = 1024;
const GROWTH = 8;
const MAX_PCRS = 32;
const MAX_PROVIDERS = 64;
const MAX_BANKS = 16;
const VERSION = 1;

/** An entry: a measurement, or the start values that providers extend into a PCR that was reset. */
export interface LogEntry {
  /** Counts all entries of the guest from 1 since its last reset. */
  readonly number: number;
  readonly kind: 'extend' | 'start';
  readonly index: number;
  readonly locality: number;
  readonly eventData: Buffer | undefined;
  readonly digests: readonly LoggedDigest[];
}

/** One bank of an entry. */
export interface LoggedDigest {
  readonly bank: number;
  /** What the guest extended; undefined in a start entry. */
  readonly measured: Buffer | undefined;
  /** What went into each provider's vector, by name; a provider that extended nothing is missing. */
  readonly translated: ReadonlyMap<string, Buffer>;
}

/** The log of one PCR: folding the entries into the base values gives the PCR's values. */
export interface PcrHistory {
  readonly index: number;
  /** Whether the base values are those of a reset, so that nothing is missing. */
  readonly complete: boolean;
  /** Values before the first entry, by provider, then by bank. */
  readonly base: ReadonlyMap<string, ReadonlyMap<number, Buffer>>;
  readonly entries: readonly LogEntry[];
}

/** A piece of one PCR's log: values of all providers and banks, side by side, and the entries after them. */
interface Chunk {
  /** Of this log alone. */
  readonly id: number;
  readonly base: Buffer;
  bytes: Buffer;
  used: number;
}

interface PcrChunks {
  complete: boolean;
  chunks: Chunk[];
}

const KIND = { extend: 0, start: 1 } as const;
/** How a translation is stored. */
const STORED = { nothing: 0, asMeasured: 1, own: 2 } as const;

/** What is written at once of a log that is kept piece by piece. */
export interface LogPiece {
  /** Unique in one log, and in the order of the pieces of a PCR. */
  readonly id: number;
  readonly index: number;
  /** Values of all providers and banks, side by side; they never change. */
  readonly base: Buffer;
  /** The entries, a view; they only grow. */
  readonly entries: Buffer;
}

const MAX_BASE = MAX_PROVIDERS * MAX_BANKS * 64;
const savedLog = struct({
  version: uint8,
  providers: list(tpm2b(64), MAX_PROVIDERS),
  banks: list(uint16, MAX_BANKS),
  next: uint32,
  dropped: uint32,
  pcrs: list(
    struct({ complete: uint8, chunks: list(struct({ base: longBytes(MAX_BASE), bytes: longBytes(2 * CHUNK_SIZE) }), 65536) }),
    MAX_PCRS,
  ),
});

/** What there is besides the pieces; it changes with most entries. */
export const logHead = struct({
  providers: list(tpm2b(64), MAX_PROVIDERS),
  banks: list(uint16, MAX_BANKS),
  next: uint32,
  dropped: uint32,
  complete: list(uint8, MAX_PCRS),
});
type LogHead = Infer<typeof logHead>;

/** Keeps the log. It copies what it is given. */
export class MeasurementLog {
  private readonly limit: number;
  private providers: string[] = [];
  private banks: number[] = [];
  private pcrs: PcrChunks[] = [];
  private next = 1;
  /** Chunks that were dropped. */
  private drops = 0;
  private size = 0;
  private chunkCount = 0;
  private changes = 0;

  constructor(limit = DEFAULT_LOG_SIZE) {
    this.limit = limit;
  }

  /** Whether entries were dropped because the log was full. */
  get truncated(): boolean {
    return this.drops > 0;
  }

  /** Rises with every change. */
  get revision(): number {
    return this.changes;
  }

  /** Bytes that entries and base values take. */
  get bytes(): number {
    return this.size;
  }

  /** Begins anew with the providers and banks of a matrix. */
  clear(matrix: MatrixView): void {
    this.providers = [...matrix.providerNames];
    this.banks = [...matrix.banks];
    this.pcrs = [];
    this.size = 0;
    this.next = 1;
    this.drops = 0;
    for (let index = 0; index < matrix.size; index++) this.begin(index, matrix, true);
  }

  /** The log of PCR `index` begins with the values that it has now. `complete` is whether these are those of a reset. */
  begin(index: number, matrix: MatrixView, complete: boolean): void {
    this.changes++;
    const pcr = this.pcrs[index];
    for (const chunk of pcr?.chunks ?? []) this.size -= chunk.used + chunk.base.length;
    this.pcrs[index] = { complete, chunks: [] };
    this.addChunk(index, matrix);
  }

  /** Whether this log is of the matrix's providers and banks. */
  fits({ providerNames, banks, size }: MatrixView): boolean {
    return same(this.providers, providerNames) && same(this.banks, banks) && this.pcrs.length === size;
  }

  /** A measurement that is about to be extended; `translated` is by provider. */
  extend({ index, locality, digests, eventData }: Measurement, translated: readonly (readonly Uint8Array[])[], matrix: MatrixView): void {
    const chunk = this.room(index, this.largestEntry(digests.length, eventData?.length ?? 0), matrix);
    if (chunk === undefined) return;
    let at = this.header(chunk, KIND.extend, locality, eventData, digests.length);
    const { bytes } = chunk;
    for (let bank = 0; bank < digests.length; bank++) {
      const one = digests[bank];
      if (one === undefined) continue;
      at = bytes.writeUInt16BE(one.bank, at);
      bytes.set(one.digest, at);
      at += one.digest.length;
      for (const ofProvider of translated) at = writeTranslation(bytes, at, ofProvider[bank], one.digest);
    }
    this.close(chunk, at);
  }

  /** Start digests that are about to be extended; by provider, then by bank. */
  start(index: number, digests: readonly (readonly (Buffer | undefined)[])[], matrix: MatrixView): void {
    const chunk = this.room(index, this.largestEntry(this.banks.length, 0), matrix);
    if (chunk === undefined) return;
    let at = this.header(chunk, KIND.start, 0, undefined, this.banks.length);
    for (const [position, bank] of this.banks.entries()) {
      at = chunk.bytes.writeUInt16BE(bank, at);
      for (const ofProvider of digests) at = writeTranslation(chunk.bytes, at, ofProvider[position], undefined);
    }
    this.close(chunk, at);
  }

  /** All PCRs, in order. */
  histories(): PcrHistory[] {
    return this.pcrs.map(({ complete, chunks }, index) => ({
      index,
      complete,
      base: this.decodeBase(chunks[0]?.base ?? Buffer.alloc(0)),
      entries: chunks.flatMap(({ bytes, used }) => this.decodeEntries(index, bytes.subarray(0, used))),
    }));
  }

  /** For {@link joinLog}. */
  head(): LogHead {
    const complete = this.pcrs.map((pcr) => Number(pcr.complete));
    return { ...this.common(), complete };
  }

  /** All that is not in {@link head}, in no order. */
  pieces(): LogPiece[] {
    return this.pcrs.flatMap(({ chunks }, index) =>
      chunks.map(({ id, base, bytes, used }) => ({ id, index, base, entries: bytes.subarray(0, used) })),
    );
  }

  /** For {@link restore}. */
  save(): Buffer {
    const value: Infer<typeof savedLog> = {
      version: VERSION,
      ...this.common(),
      pcrs: this.pcrs.map(({ complete, chunks }) => ({
        complete: Number(complete),
        chunks: chunks.map(({ base, bytes, used }) => ({ base, bytes: bytes.subarray(0, used) })),
      })),
    };
    return encodeLog(value, this.size);
  }

  /** Takes what {@link save} gave. Throws an Error if it is not that; the log must not be used then. */
  restore(bytes: Buffer): void {
    const value = savedLog.decode(new Reader(bytes));
    if (value.version !== VERSION) throw new Error(`a measurement log of version ${value.version.toString()}`);
    this.providers = value.providers.map((name) => name.toString());
    this.banks = value.banks;
    this.next = value.next;
    this.drops = value.dropped;
    this.pcrs = value.pcrs.map(({ complete, chunks }) => ({
      complete: complete !== 0,
      chunks: chunks.map((chunk) => ({
        id: this.chunkCount++,
        base: Buffer.from(chunk.base),
        bytes: Buffer.from(chunk.bytes),
        used: chunk.bytes.length,
      })),
    }));
    this.size = this.pcrs.flatMap(({ chunks }) => chunks).reduce((sum, { base, used }) => sum + base.length + used, 0);
    this.changes++;
    this.histories();
  }

  private common(): Pick<Infer<typeof savedLog>, 'providers' | 'banks' | 'next' | 'dropped'> {
    return { providers: this.providers.map((name) => Buffer.from(name)), banks: this.banks, next: this.next, dropped: this.drops };
  }

  private largestEntry(banks: number, eventData: number): number {
    return 9 + eventData + banks * (2 + 64 + this.providers.length * 65);
  }

  /** A chunk with room for `size` more bytes; undefined if there is no such PCR. */
  private room(index: number, size: number, matrix: MatrixView): Chunk | undefined {
    const pcr = this.pcrs[index];
    if (pcr === undefined) return undefined;
    let chunk = pcr.chunks.at(-1);
    if (chunk === undefined || chunk.used + size > Math.max(CHUNK_SIZE, size)) chunk = this.addChunk(index, matrix);
    if (chunk.used + size > chunk.bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(Math.min(chunk.bytes.length * GROWTH, CHUNK_SIZE), FIRST_SIZE, chunk.used + size));
      chunk.bytes.copy(larger, 0, 0, chunk.used);
      chunk.bytes = larger;
    }
    return chunk;
  }

  private addChunk(index: number, matrix: MatrixView): Chunk {
    const values = this.providers.flatMap((name) =>
      this.banks.map((bank) => matrix.readVector(name, bank, index) ?? Buffer.alloc(digestSize(bank))),
    );
    const chunk = { id: this.chunkCount++, base: Buffer.concat(values), bytes: Buffer.alloc(0), used: 0 };
    this.pcrs[index]?.chunks.push(chunk);
    this.size += chunk.base.length;
    return chunk;
  }

  private header(chunk: Chunk, kind: number, locality: number, eventData: Buffer | undefined, banks: number): number {
    const { bytes } = chunk;
    let at = bytes.writeUInt32BE(this.next, chunk.used);
    this.next = (this.next + 1) >>> 0;
    at = bytes.writeUInt8(kind, at);
    at = bytes.writeUInt8(locality, at);
    // One more than the size, so that no data and empty data differ.
    at = bytes.writeUInt16BE(eventData === undefined ? 0 : eventData.length + 1, at);
    if (eventData !== undefined) at += eventData.copy(bytes, at);
    return bytes.writeUInt8(banks, at);
  }

  private close(chunk: Chunk, end: number): void {
    this.changes++;
    this.size += end - chunk.used;
    chunk.used = end;
    while (this.size > this.limit && this.dropOldest());
  }

  /** Drops a chunk of the PCR that has most of them; its successor's base values stand for it. */
  private dropOldest(): boolean {
    let largest: PcrChunks | undefined;
    for (const pcr of this.pcrs) if (largest === undefined || pcr.chunks.length > largest.chunks.length) largest = pcr;
    if (largest === undefined || largest.chunks.length < 2) return false;
    const [chunk] = largest.chunks.splice(0, 1);
    this.size -= (chunk?.used ?? 0) + (chunk?.base.length ?? 0);
    largest.complete = false;
    this.drops++;
    return true;
  }

  private decodeBase(base: Buffer): Map<string, Map<number, Buffer>> {
    const reader = new Reader(base);
    return new Map(
      this.providers.map((name) => [name, new Map(this.banks.map((bank) => [bank, Buffer.from(reader.view(digestSize(bank)))]))]),
    );
  }

  private decodeEntries(index: number, bytes: Buffer): LogEntry[] {
    const reader = new Reader(bytes);
    const entries: LogEntry[] = [];
    while (reader.remaining > 0) {
      const number = reader.uint32();
      const kind = reader.uint8() === KIND.start ? 'start' : 'extend';
      const locality = reader.uint8();
      const size = reader.uint16();
      const eventData = size === 0 ? undefined : Buffer.from(reader.view(size - 1));
      const digests = Array.from({ length: reader.uint8() }, () => this.decodeDigest(reader, kind));
      entries.push({ number, kind, index, locality, eventData, digests });
    }
    return entries;
  }

  private decodeDigest(reader: Reader, kind: LogEntry['kind']): LoggedDigest {
    const bank = reader.uint16();
    const width = digestSize(bank);
    const measured = kind === 'start' ? undefined : Buffer.from(reader.view(width));
    const translated = new Map<string, Buffer>();
    for (const name of this.providers) {
      const stored = reader.uint8();
      if (stored === STORED.own) translated.set(name, Buffer.from(reader.view(width)));
      else if (stored === STORED.asMeasured && measured !== undefined) translated.set(name, measured);
    }
    return { bank, measured, translated };
  }
}

/** What {@link MeasurementLog.restore} takes, from {@link MeasurementLog.head} and all pieces. */
export function joinLog({ complete, ...common }: LogHead, pieces: readonly LogPiece[]): Buffer {
  const sorted = [...pieces].sort((a, b) => a.id - b.id);
  const pcrs = complete.map((flag, index) => ({
    complete: flag,
    chunks: sorted.filter((piece) => piece.index === index).map(({ base, entries }) => ({ base, bytes: entries })),
  }));
  return encodeLog({ version: VERSION, ...common, pcrs }, 0);
}

function encodeLog(value: Infer<typeof savedLog>, size: number): Buffer {
  const writer = new Writer(size + 4096);
  savedLog.encode(writer, value);
  return writer.finish();
}

function writeTranslation(bytes: Buffer, at: number, digest: Uint8Array | undefined, measured: Buffer | undefined): number {
  if (digest === undefined) return bytes.writeUInt8(STORED.nothing, at);
  if (digest === measured) return bytes.writeUInt8(STORED.asMeasured, at);
  const next = bytes.writeUInt8(STORED.own, at);
  bytes.set(digest, next);
  return next + digest.length;
}

function same(one: readonly unknown[], other: readonly unknown[]): boolean {
  return one.length === other.length && one.every((value, at) => value === other[at]);
}
