// Keeps the volatile state of a vTPM in a journal: a command that fails is undone from it, and if the journal outlives the process another
// one goes on where this one was killed.
import { applyChanges, type JournalRecord } from '../../store/journal-record.js';
import { JournalRefused, JournalUnwritable, type KeptJournal, type StateJournal } from '../../store/state-journal.js';
import { struct, tpm2b, uint64, type Infer } from '../../tpm/schema.js';
import type { Tpm } from '../tpm.js';
import { ReplyCache } from './reply-cache.js';
import { SectionChanges } from './section-changes.js';
import { type Origin, SectionReader, type Sections } from './section.js';

/** Durable record that tells up to which record of which journal the commits have come. It is no part of the permanent state. */
export const JOURNAL_KEY = 'journal';
const journalMark = struct({ id: tpm2b(16), number: uint64 });
type JournalMark = Infer<typeof journalMark>;

/** A journal is written anew when it is larger than this, and than {@link GROWTH} times what it had to hold then. */
const SMALLEST_LIMIT = 1024 * 1024;
const GROWTH = 4;

/** What is in the journal is the newest, and Time has run on since. */
const JOURNAL_ORIGIN: Origin = { takenAt: undefined, mayBeOlder: false };

/** A response, and by which token it will be asked for; 0 is none. */
export interface TokenedResponse {
  readonly token: number;
  readonly response: Buffer;
}

/**
 * Writes what a command changed, before it is answered. Changes that go with a commit are written before it and count only if the commit is
 * durable, which a durable record with the journal's number tells: so both happen or none, at whatever moment the process is killed.
 */
export class VolatileKeeper {
  private readonly changes = new SectionChanges();
  private limit = SMALLEST_LIMIT;
  /** The last record waits for its commit. */
  private uncommitted = false;
  private readonly answers = new ReplyCache();

  constructor(private readonly journal: StateJournal) {}

  /** A power cycle begins, or goes on in this process. Throws {@link JournalUnwritable}. */
  begin(tpm: Tpm): void {
    this.rewrite(tpm, true);
  }

  /** The response to the command with this token, if it changed anything and was one of the last. */
  answered(token: number): Buffer | undefined {
    return this.answers.find(token);
  }

  /**
   * Writes what changed: whether there was anything. `onWrite` is called before that. Throws {@link JournalUnwritable}: then it is to be
   * undone.
   */
  write(tpm: Tpm, answer?: TokenedResponse, onWrite?: () => void): boolean {
    const written = this.append(tpm, false, answer, onWrite);
    this.keepShort(tpm, this.limit);
    return written;
  }

  /** Before a commit: what changed so far goes with it, and the response. Throws {@link JournalUnwritable}. */
  prepareCommit(tpm: Tpm, answer?: TokenedResponse): void {
    if (!this.append(tpm, true, answer)) return;
    this.uncommitted = true;
    tpm.durable.put(JOURNAL_KEY, journalMark, { id: this.journal.id, number: this.journal.lastNumber });
  }

  /** The commit is durable. With `erases` what was written before it does not stay. */
  committed(tpm: Tpm, erases: boolean): void {
    this.uncommitted = false;
    this.keepShort(tpm, erases ? 0 : this.limit);
  }

  /** The last operation is undone: puts the state before it into a TPM that has loaded what is durable. */
  async goBack(fresh: Tpm): Promise<void> {
    if (this.uncommitted) this.takeBack();
    const kept = this.journal.read();
    if (kept === undefined) throw new JournalRefused('it is gone');
    const sections = applyChanges(kept.records);
    await fresh.putBack(new SectionReader(sections), JOURNAL_ORIGIN);
    this.answers.restore(sections);
    this.changes.adopt(fresh.modules);
  }

  /**
   * A TPM with the state that a process before this one left; `load` makes one with all that is durable. Undefined if there is no such
   * state. The journal is left alone. Rejects with {@link JournalRefused}.
   */
  async resume(load: () => Promise<Tpm>): Promise<Tpm | undefined> {
    const kept = this.journal.read();
    if (kept === undefined) return undefined;
    const fresh = await load();
    const sections = replay(kept, await fresh.durable.load(JOURNAL_KEY, journalMark));
    try {
      await fresh.putBack(new SectionReader(sections), JOURNAL_ORIGIN);
    } catch (error) {
      throw new JournalRefused('what is in it cannot be put together', { cause: error });
    }
    this.answers.restore(sections);
    return fresh;
  }

  /** Power is gone, and the state with it. */
  end(): void {
    this.changes.forget();
    this.uncommitted = false;
    this.journal.end();
  }

  /** The process ends; what outlives it stays. */
  release(): void {
    this.changes.forget();
    this.journal.release();
  }

  /** The record of a commit that failed goes away. */
  private takeBack(): void {
    this.uncommitted = false;
    try {
      this.journal.takeBack();
    } catch (error) {
      // What follows it is cut off before the next record is written, and until then it does not count.
      if (!(error instanceof JournalUnwritable)) throw error;
    }
  }

  private keepShort(tpm: Tpm, limit: number): void {
    if (this.journal.size <= limit) return;
    try {
      this.rewrite(tpm, false);
    } catch (error) {
      // It is complete, and only longer than it had to be.
      if (!(error instanceof JournalUnwritable)) throw error;
    }
  }

  private append({ modules }: Tpm, withCommit: boolean, answer: TokenedResponse | undefined, onWrite?: () => void): boolean {
    const changes = this.changes.collect(modules);
    if (answer !== undefined && answer.token !== 0 && (withCommit || changes.length > 0)) {
      changes.push(this.answers.add(answer.token, answer.response));
    }
    if (changes.length === 0) return false;
    onWrite?.();
    this.journal.append(changes, withCommit);
    this.changes.wipe();
    return true;
  }

  private rewrite({ modules }: Tpm, renew: boolean): void {
    this.changes.forget();
    this.uncommitted = false;
    this.journal.begin([...this.changes.collect(modules), ...this.answers.all()], renew);
    this.changes.wipe();
    this.limit = Math.max(SMALLEST_LIMIT, GROWTH * this.journal.size);
  }
}

/** The sections as of the last command that was executed. Throws {@link JournalRefused} if journal and durable state do not belong together. */
function replay({ id, records }: KeptJournal, mark: JournalMark | undefined): Sections {
  const committed = mark?.id.equals(id) === true ? mark.number : 0n;
  const last = records.at(-1);
  if (committed > (last?.number ?? 0n)) throw new JournalRefused('records at its end are missing');
  const open = (record: JournalRecord): boolean => record.withCommit && record.number > committed;
  const executed = last !== undefined && open(last) ? records.slice(0, -1) : records;
  if (executed.some(open)) throw new JournalRefused('the state on the disk is older than what is in it');
  return applyChanges(executed);
}
