// The form in which all that a vTPM loses with power outlives its process or its host: named sections, which every module of the state
// declares once. Journal, snapshot and state blob are made of them.
import { type Schema, decode, encode } from '../../tpm/schema.js';

/** A section by its name, 1 to 255 Latin-1 characters. */
export interface Section<T> {
  readonly name: string;
  readonly schema: Schema<T>;
}

/** Sections of one kind; the name of each is `prefix` and a rest of its own, which is a handle, an index or a name. */
export interface SectionFamily<T> {
  readonly prefix: string;
  readonly schema: Schema<T>;
}

/** Declares a section. */
export function section<T>(name: string, schema: Schema<T>): Section<T> {
  return { name, schema };
}

/** Declares sections of one kind. */
export function sectionFamily<T>(prefix: string, schema: Schema<T>): SectionFamily<T> {
  return { prefix, schema };
}

/** Plain bytes without a size. Who gives them for a section gives them away; decoding gives a view. */
export const plainBytes: Schema<Buffer> = {
  decode: (reader) => reader.view(reader.remaining),
  encode: (writer, bytes) => {
    writer.raw(bytes);
  },
  shape: { kind: 'bytes', max: 0xffffffff },
};

/** A section's value as bytes that nobody else holds. */
export function encodeSection<T>(schema: Schema<T>, value: T): Buffer {
  return Buffer.isBuffer(value) && (schema as unknown) === plainBytes ? value : encode(schema, value);
}

/**
 * How state is told from an earlier one without encoding it: all that it consists of, or an object and how often it was changed. It is the
 * same as long as each of these is (`Object.is`), so that what is changed in place needs a number that rises.
 */
export type Mark = readonly unknown[];

/** Whether two marks are of the same state. */
export function isSame(one: Mark, other: Mark | undefined): boolean {
  if (one.length !== other?.length) return false;
  for (let i = 0; i < one.length; i++) if (!Object.is(one[i], other[i])) return false;
  return true;
}

/** One section of a family. */
export interface Member<T> {
  /** What its name ends with. */
  readonly rest: string;
  /** Without one it is encoded each time, and compared. */
  readonly mark?: Mark;
  take(): T;
}

/** One section of a family whose sections only grow. */
export interface GrowingMember {
  readonly rest: string;
  /** Bytes that there are. */
  readonly length: number;
  /** Those from `at` on, which may be a view. */
  from(at: number): Buffer;
}

/** Is told what there is, and takes what it needs of it. */
export interface SectionWriter {
  /** A section; if `mark` is the same as before it need not be taken. */
  one<T>(section: Section<T>, take: () => T, mark?: Mark): void;
  /** A section that there is not. */
  none(section: Pick<Section<unknown>, 'name'>): void;
  /** All sections of a family; those that are not among them are not there. If `mark` is the same as before none has changed. */
  each<T>(family: SectionFamily<T>, members: () => Iterable<Member<T>>, mark?: Mark): void;
  /** All sections of a family whose sections only grow. What was there is the same as long as `of` is. */
  growing(family: SectionFamily<Buffer>, members: () => Iterable<GrowingMember>, of: unknown, revision: number): void;
}

/** Sections by their names. */
export type Sections = ReadonlyMap<string, Buffer>;

/** Gives sections as what they were. */
export class SectionReader {
  constructor(private readonly sections: Sections) {}

  /** A section that must be there. Throws a RangeError if it is not, and a `TpmError` if it is not of its schema. */
  one<T>({ name, schema }: Section<T>): T {
    const bytes = this.sections.get(name);
    if (bytes === undefined) throw new RangeError(`section ${name} is missing`);
    return decode(schema, bytes);
  }

  /** A section that may be there. Throws a `TpmError` if it is not of its schema. */
  maybe<T>({ name, schema }: Section<T>): T | undefined {
    const bytes = this.sections.get(name);
    return bytes && decode(schema, bytes);
  }

  /** All sections of a family by the rest of their names. Throws a `TpmError`. */
  each<T>({ prefix, schema }: SectionFamily<T>): [rest: string, value: T][] {
    return [...this.sections].flatMap(([name, bytes]) =>
      name.startsWith(prefix) ? [[name.slice(prefix.length), decode(schema, bytes)] as [string, T]] : [],
    );
  }
}

/** Where state that is put back comes from. */
export interface Origin {
  /** When it was taken, by the monotonic clock of then (ns): Time stood still since. Undefined if Time ran on, on the same host. */
  readonly takenAt: bigint | undefined;
  /** There may have been later state. */
  readonly mayBeOlder: boolean;
}

/** One part of the state of a vTPM. */
export interface StateModule {
  /** Reads what is durable; absent if nothing is. What is new is durable with the next commit. */
  load?(): Promise<void>;
  /** Tells all that is lost with power; absent if nothing is. Costs no hardware command. */
  writeSections?(writer: SectionWriter): void;
  /** Takes it back, after {@link load}. What is public may stay a view of what was read. Throws a `TpmError` or RangeError. Costs no hardware command. */
  readSections?(reader: SectionReader, origin: Origin): void | Promise<void>;
}
