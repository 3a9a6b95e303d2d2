// The volatile state of one guest in the memory of this process: enough to undo a command, and gone with the process.
import { randomBytes } from 'node:crypto';
import { decodeChanges, encodeChanges, type SectionChange } from './journal-record.js';
import { JournalUnwritable, type KeptJournal, type StateJournal } from './state-journal.js';

const ID_SIZE = 16;

interface KeptRecord {
  readonly number: bigint;
  /** What {@link encodeChanges} gave. */
  readonly bytes: Buffer;
}

/** A journal that ends with its process, or with {@link release}. */
export class MemoryJournal implements StateJournal {
  private records: KeptRecord[] | undefined;
  private number = 0n;
  private journalId = randomBytes(ID_SIZE);
  private bytes = 0;

  get id(): Buffer {
    return this.journalId;
  }

  get lastNumber(): bigint {
    return this.number;
  }

  get size(): number {
    return this.bytes;
  }

  read(): KeptJournal | undefined {
    const { records, journalId } = this;
    return records && { id: journalId, records: records.map(({ number, bytes }) => decodeChanges(number, Buffer.from(bytes))) };
  }

  begin(changes: readonly SectionChange[], renew: boolean): void {
    this.release();
    this.records = [];
    if (renew) this.journalId = randomBytes(ID_SIZE);
    this.append(changes, false);
  }

  append(changes: readonly SectionChange[], withCommit: boolean): void {
    if (this.records === undefined) throw new JournalUnwritable('there is no journal');
    const bytes = encodeChanges(withCommit, changes);
    this.records.push({ number: ++this.number, bytes });
    this.bytes += bytes.length;
  }

  takeBack(): void {
    const last = this.records?.pop();
    if (last === undefined) return;
    this.bytes -= last.bytes.length;
    last.bytes.fill(0);
    this.append([], false);
  }

  end(): void {
    this.release();
  }

  release(): void {
    for (const { bytes } of this.records ?? []) bytes.fill(0);
    this.records = undefined;
    this.bytes = 0;
  }
}
