// The whole state of a vTPM as data: what is durable, and what is lost with power. Encryption is the writer's business.
import type { GuestRecords, RecordChanges } from '../../store/guest-records.js';
import { applyChanges } from '../../store/journal-record.js';
import { TpmError } from '../../tpm/response-code.js';
import { encode, struct, uint64 } from '../../tpm/schema.js';
import { StateRefused, type StatePart } from '../guest-tpm.js';
import type { Tpm } from '../tpm.js';
import { SectionChanges } from './section-changes.js';
import { section, SectionReader } from './section.js';

/** Version of both formats; what has another one is refused. */
const VERSION = 1;

/** When the state was taken, by the monotonic clock (ns), and the {@link Generation} of the durable state then. */
const moment = section('moment', struct({ at: uint64, generation: uint64 }));

/** All that is lost with power. Takes neither time in the chip nor a write. The bytes are secret. */
export function takeVolatile({ modules, generation }: Tpm): Buffer {
  const changes = new SectionChanges();
  const sections = new Map([
    [moment.name, encode(moment.schema, { at: process.hrtime.bigint(), generation: generation.value })],
    ...applyChanges([{ changes: changes.collect(modules) }]),
  ]);
  const bytes = encodeRecords(sections);
  changes.forget();
  for (const section of sections.values()) section.fill(0);
  return bytes;
}

/** Volatile state that was decoded: views of the bytes that it was decoded from. */
export class VolatileState {
  private readonly reader: SectionReader;
  /** See {@link moment}. */
  readonly generation: bigint;
  private readonly takenAt: bigint;

  /** What {@link takeVolatile} gave. Throws {@link StateRefused} if it is not that. */
  constructor(bytes: Buffer) {
    this.reader = new SectionReader(decodeRecords(bytes, 'volatile'));
    try {
      ({ at: this.takenAt, generation: this.generation } = this.reader.one(moment));
    } catch (error) {
      throw damaged(error);
    }
  }

  /** Puts it into a TPM that has loaded its durable state; there may have been later state. Rejects with {@link StateRefused} if it is damaged. */
  async putInto(tpm: Tpm): Promise<void> {
    try {
      await tpm.putBack(this.reader, { takenAt: this.takenAt, mayBeOlder: true });
    } catch (error) {
      throw error instanceof TpmError || error instanceof RangeError ? damaged(error) : error;
    }
  }
}

function damaged(cause: unknown): StateRefused {
  return new StateRefused('the volatile state in it is damaged', { cause });
}

/** Records by their keys. */
export type RecordSet = ReadonlyMap<string, Buffer>;

/** All records as bytes: version (1), then of each record size of key (2), key, size of value (4), value. The bytes are secret. */
export function encodeRecords(records: RecordSet): Buffer {
  const parts: Buffer[] = [Buffer.of(VERSION)];
  for (const [key, value] of records) {
    const name = Buffer.from(key, 'latin1');
    const sizes = Buffer.alloc(6);
    sizes.writeUInt16BE(name.length);
    sizes.writeUInt32BE(value.length, 2);
    parts.push(sizes.subarray(0, 2), name, sizes.subarray(2), value);
  }
  return Buffer.concat(parts);
}

/** What {@link encodeRecords} was given; values are views. Throws {@link StateRefused}. */
export function decodeRecords(bytes: Buffer, part: StatePart): RecordSet {
  checkVersion(bytes, part);
  const records = new Map<string, Buffer>();
  let at = 1;
  const take = (size: number): Buffer => {
    if (size > bytes.length - at) throw new StateRefused(`the ${part} state in it is damaged`);
    at += size;
    return bytes.subarray(at - size, at);
  };
  while (at < bytes.length) {
    const key = take(take(2).readUInt16BE()).toString('latin1');
    records.set(key, take(take(4).readUInt32BE()));
  }
  return records;
}

/** The changes that make `wanted` of the records with the keys `present`. */
export function replaceRecords(present: Iterable<string>, wanted: RecordSet): Map<string, Buffer | null> {
  const changes = new Map<string, Buffer | null>();
  for (const key of present) changes.set(key, null);
  for (const [key, value] of wanted) changes.set(key, Buffer.from(value));
  return changes;
}

/** Records to be tried out: changes go nowhere else. */
export class TrialRecords implements GuestRecords {
  private readonly records: Map<string, Buffer>;

  constructor(records: RecordSet) {
    this.records = new Map(records);
  }

  /** The records with all changes. */
  get all(): RecordSet {
    return this.records;
  }

  load(prefix: string): Promise<[key: string, value: Buffer][]> {
    return Promise.resolve([...this.records].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  commit(changes: RecordChanges): Promise<void> {
    for (const [key, value] of changes) {
      if (value === null) this.records.delete(key);
      else this.records.set(key, value);
    }
    return Promise.resolve();
  }
}

function checkVersion(bytes: Buffer, part: StatePart): void {
  const version = bytes[0] ?? 0;
  if (version !== VERSION) {
    throw new StateRefused(`its ${part} state has format version ${version.toString()}; this tpmux reads version ${VERSION.toString()}`);
  }
}
