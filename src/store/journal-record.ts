// What the records of a volatile journal say: named sections of bytes that are set, grow or go.
import { Reader, Writer } from '../tpm/wire.js';

/** What happens to one section. A name has 1 to 255 Latin-1 characters. */
export type SectionChange =
  | { readonly kind: 'set' | 'append'; readonly key: string; readonly bytes: Buffer }
  /** `removeAll` is of every section whose name begins with `key`. */
  | { readonly kind: 'remove' | 'removeAll'; readonly key: string };

/** The changes of one operation. */
export interface JournalRecord {
  /** Rises from record to record; numbers may be left out. */
  readonly number: bigint;
  /** It counts only if a commit that was made with it, see {@link replay}, is durable. */
  readonly withCommit: boolean;
  readonly changes: readonly SectionChange[];
}

const kinds = ['set', 'append', 'remove', 'removeAll'] as const;

/** Whether it is one with a commit (1), then of each change its kind (1), size of name (1), name, and for `set` and `append` size (4) and bytes. */
export function encodeChanges(withCommit: boolean, changes: readonly SectionChange[]): Buffer {
  const writer = new Writer(1024);
  writer.uint8(Number(withCommit));
  for (const change of changes) {
    writer.uint8(kinds.indexOf(change.kind));
    writer.uint8(change.key.length);
    writer.raw(Buffer.from(change.key, 'latin1'));
    if (!('bytes' in change)) continue;
    writer.uint32(change.bytes.length);
    writer.raw(change.bytes);
  }
  return writer.finish();
}

/** What {@link encodeChanges} was given; bytes are views. Throws a `TpmError` or a RangeError if it is not that. */
export function decodeChanges(number: bigint, bytes: Buffer): JournalRecord {
  const reader = new Reader(bytes);
  const withCommit = reader.uint8() !== 0;
  const changes: SectionChange[] = [];
  while (reader.remaining > 0) {
    const kind = kinds[reader.uint8()];
    const key = reader.view(reader.uint8()).toString('latin1');
    if (kind === undefined) throw new RangeError('a change of an unknown kind');
    changes.push(kind === 'remove' || kind === 'removeAll' ? { kind, key } : { kind, key, bytes: reader.view(reader.uint32()) });
  }
  return { number, withCommit, changes };
}

/** The sections after all changes, in buffers of their own. */
export function applyChanges(records: readonly Pick<JournalRecord, 'changes'>[]): Map<string, Buffer> {
  const parts = new Map<string, Buffer[]>();
  for (const change of records.flatMap(({ changes }) => changes)) {
    const { key } = change;
    if ('bytes' in change) parts.set(key, change.kind === 'set' ? [change.bytes] : [...(parts.get(key) ?? []), change.bytes]);
    else if (change.kind === 'remove') parts.delete(key);
    else for (const name of [...parts.keys()]) if (name.startsWith(key)) parts.delete(name);
  }
  return new Map([...parts].map(([key, pieces]) => [key, Buffer.concat(pieces)]));
}
