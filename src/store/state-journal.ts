// Where the volatile state of a guest is kept, change by change.
import type { JournalRecord, SectionChange } from './journal-record.js';

/** Why the journal of a guest is not gone on with. The message says what is wrong with the file. */
export class JournalRefused extends Error {
  override readonly name = 'JournalRefused';
}

/** The journal could not be written, as on a full disk; it is as it was before. */
export class JournalUnwritable extends Error {
  override readonly name = 'JournalUnwritable';
}

/** A journal that was read. */
export interface KeptJournal {
  /** Identity of the journal over its rewrites; 16 bytes. */
  readonly id: Buffer;
  readonly records: readonly JournalRecord[];
}

/** Keeps the changes of the volatile state of one guest. All calls are synchronous. */
export interface StateJournal {
  /** Identity of the journal since {@link begin} made a new one; 16 bytes. */
  readonly id: Buffer;
  /** Number of the last record that was tried to be written. */
  readonly lastNumber: bigint;
  /** Bytes that it takes; 0 if there is none. */
  readonly size: number;

  /**
   * What it holds; undefined if there is nothing, or only what is of an earlier boot of the host. A record at its end that is not complete
   * is left out: nobody was told of it. Throws {@link JournalRefused}.
   */
  read(): KeptJournal | undefined;

  /**
   * Begins with `changes` in place of what there is. With `renew` it is a new journal; otherwise the same one goes on in fewer bytes.
   * Throws {@link JournalUnwritable}; what there is stays then. The bytes of the changes are copied.
   */
  begin(changes: readonly SectionChange[], renew: boolean): void;

  /**
   * Adds one record. `withCommit` says that it counts only if the commit that follows, which has to make {@link lastNumber} durable, is.
   * Throws {@link JournalUnwritable}; the journal is as before then. The bytes of the changes are copied.
   */
  append(changes: readonly SectionChange[], withCommit: boolean): void;

  /**
   * Takes back what the last {@link append} wrote, because the commit with it failed. Should that commit come to light all the same, the
   * record that is written instead tells that nothing is missing here. Throws {@link JournalUnwritable}.
   */
  takeBack(): void;

  /** There is nothing to go on with any more. Throws if something stays. */
  end(): void;

  /** This process goes on no more; what outlives it stays. */
  release(): void;
}
