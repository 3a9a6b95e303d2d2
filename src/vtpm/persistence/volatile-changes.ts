// What has changed of the volatile state since it was last written, in a few microseconds if that is little.
import { savedChoice } from '../../properties/matrix/saved-matrix.js';
import type { MeasurementLog } from '../../properties/measurement-log/measurement-log.js';
import type { SectionChange } from '../../store/journal-record.js';
import { encode } from '../../tpm/schema.js';
import { storedNvIndex } from '../state/nv.js';
import { storedSession, toStoredSession } from '../state/stored/stored-session.js';
import type { Tpm } from '../tpm.js';
import { encodeLoaded, encodePiece, headSections, LOG_HEAD, PREFIX, PROVIDER_CHOICE, smallSections } from './volatile-sections.js';

/** How a section is told from an earlier one without encoding it: the same object, as often changed. */
interface Mark {
  readonly of: unknown;
  readonly revision: number;
}

/** Knows what was written last. */
export class VolatileChanges {
  /** Small sections, by name. */
  private bytes = new Map<string, Buffer>();
  /** Large ones: loaded objects, sequences, orderly NV indices, PCRs. */
  private marks = new Map<string, Mark>();
  private matrix: Mark = { of: undefined, revision: 0 };
  private log: { of: MeasurementLog; revision: number; written: Map<string, number> | undefined } | undefined;

  /** All that differs from what was written last, which is this from now on. Buffers are views only until the next command. */
  collect(tpm: Tpm): SectionChange[] {
    const changes: SectionChange[] = [];
    for (const { key, take } of [...smallSections, ...headSections]) this.compare(changes, key, take(tpm));
    this.collectSessions(changes, tpm);
    this.collectLoaded(changes, tpm);
    this.collectNv(changes, tpm);
    const { matrix } = tpm.pcrs;
    if (this.matrix.of !== matrix || this.matrix.revision !== matrix.revision()) this.collectPcrs(changes, tpm);
    this.collectLog(changes, tpm.pcrs.log);
    return changes;
  }

  /** Nothing was written: the next {@link collect} gives all there is. */
  forget(): void {
    for (const bytes of this.bytes.values()) bytes.fill(0);
    this.bytes = new Map();
    this.marks = new Map();
    this.matrix = { of: undefined, revision: 0 };
    this.log = undefined;
  }

  /** What is written is the state of `tpm`, though other objects held it then. */
  adopt(tpm: Tpm): void {
    this.forget();
    this.collect(tpm);
    // The pieces of the log have other numbers now.
    if (this.log !== undefined) this.log.written = undefined;
  }

  private collectSessions(changes: SectionChange[], { sessions }: Tpm): void {
    const present = new Set<string>();
    for (const handle of sessions.loaded) {
      const session = sessions.find(handle);
      if (session === undefined) continue;
      const key = PREFIX.session + handle.toString();
      present.add(key);
      this.compare(changes, key, encode(storedSession, toStoredSession(session)));
    }
    this.removeOthers(changes, this.bytes, PREFIX.session, present);
  }

  private collectLoaded(changes: SectionChange[], { objects }: Tpm): void {
    const present = new Set<string>();
    for (const handle of objects.handles) {
      const found = objects.find(handle);
      if (found === undefined) continue;
      const key = PREFIX[found.kind] + handle.toString();
      present.add(key);
      this.mark(changes, key, { of: found, revision: found.kind === 'object' ? 0 : found.revision }, () => encodeLoaded(found));
    }
    this.removeOthers(changes, this.marks, PREFIX.object, present);
    this.removeOthers(changes, this.marks, PREFIX.sequence, present);
  }

  private collectNv(changes: SectionChange[], { nv }: Tpm): void {
    const present = new Set<string>();
    for (const index of nv.orderly) {
      const key = PREFIX.nv + index.handle.toString();
      present.add(key);
      const { publicArea, authValue, data, revision } = index;
      this.mark(changes, key, { of: index, revision }, () => encode(storedNvIndex, { version: 1, publicArea, authValue, data }));
    }
    this.removeOthers(changes, this.marks, PREFIX.nv, present);
  }

  private collectPcrs(changes: SectionChange[], { pcrs }: Tpm): void {
    const { matrix } = pcrs;
    this.matrix = { of: matrix, revision: matrix.revision() };
    for (let index = 0; index < matrix.size; index++) {
      this.mark(changes, PREFIX.pcr + index.toString(), { of: matrix, revision: matrix.revision(index) }, () => matrix.valuesOf(index));
    }
    const set = pcrs.providerSet;
    this.mark(changes, PROVIDER_CHOICE, { of: set, revision: 0 }, () => encode(savedChoice, set.choice));
    const present = new Set<string>();
    for (const { provider, state } of set.saveStates()) {
      const key = PREFIX.provider + provider.toString('latin1');
      present.add(key);
      this.compare(changes, key, state);
    }
    this.removeOthers(changes, this.bytes, PREFIX.provider, present);
  }

  /** Pieces only grow: of one that is known the new end is enough. */
  private collectLog(changes: SectionChange[], log: MeasurementLog | undefined): void {
    if (log === undefined) {
      if (this.log !== undefined) changes.push({ kind: 'removeAll', key: PREFIX.log }, { kind: 'remove', key: LOG_HEAD });
      this.log = undefined;
      return;
    }
    if (this.log?.of === log && this.log.revision === log.revision) return;
    const same = this.log?.of === log ? this.log.written : undefined;
    if (same === undefined && this.log !== undefined) changes.push({ kind: 'removeAll', key: PREFIX.log });
    const written = new Map<string, number>();
    for (const piece of log.pieces()) {
      const key = `${PREFIX.log}${piece.index.toString()}/${piece.id.toString()}`;
      const before = same?.get(key);
      written.set(key, piece.entries.length);
      if (before === undefined) changes.push({ kind: 'set', key, bytes: encodePiece(piece) });
      else if (before < piece.entries.length) changes.push({ kind: 'append', key, bytes: piece.entries.subarray(before) });
    }
    for (const key of same?.keys() ?? []) if (!written.has(key)) changes.push({ kind: 'remove', key });
    changes.push({ kind: 'set', key: LOG_HEAD, bytes: log.head() });
    this.log = { of: log, revision: log.revision, written };
  }

  private compare(changes: SectionChange[], key: string, bytes: Buffer): void {
    const before = this.bytes.get(key);
    if (before?.equals(bytes) === true) return;
    before?.fill(0);
    this.bytes.set(key, bytes);
    changes.push({ kind: 'set', key, bytes });
  }

  private mark(changes: SectionChange[], key: string, mark: Mark, take: () => Buffer): void {
    const before = this.marks.get(key);
    if (before !== undefined && before.of === mark.of && before.revision === mark.revision) return;
    this.marks.set(key, mark);
    changes.push({ kind: 'set', key, bytes: take() });
  }

  private removeOthers(changes: SectionChange[], known: Map<string, unknown>, prefix: string, present: ReadonlySet<string>): void {
    for (const key of known.keys()) {
      if (!key.startsWith(prefix) || present.has(key)) continue;
      known.delete(key);
      changes.push({ kind: 'remove', key });
    }
  }
}
