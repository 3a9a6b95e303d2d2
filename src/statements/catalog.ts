// The property statements of a host: kept in files, checked, and looked up by guests' providers.
import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { reasonOf } from '../failure.js';
import { SerialQueue } from '../serial-queue.js';
import { parseEnvelope } from './dsse.js';
import { PropertyError } from './property-error.js';
import { PropertySet } from './property-set.js';
import { readRevocations, type RevocationList } from './revocation.js';
import { SignedFiles } from './signed-files.js';
import { payloadId, readStatement, type PropertyStatement } from './statement.js';
import {
  revocationsOf,
  StatementIndex,
  StatementSnapshot,
  type IssuerRevocations,
  type KeptStatement,
  type Verdict,
} from './statement-index.js';
import type { Trust } from './trust.js';

/** Digests that statements may be about, all together, unless told otherwise. */
const DEFAULT_MAX_DIGESTS = 1_000_000;
/** Statements that are listed without a pause. */
const LIST_BATCH = 4;
const MAX_PROBLEMS = 100;

/** Remembers, outside of the directory of statements, which revocation lists there were. */
export interface RevocationAnchor {
  /** The highest number of a list seen so far, by issuer. */
  load(): ReadonlyMap<string, number>;
  save(numbers: ReadonlyMap<string, number>): Promise<void>;
}

export interface CatalogOptions {
  /** Directory of the files; made when something is added. */
  readonly directory: string;
  readonly trust: Trust;
  /** Without one, a revocation list that is deleted from the directory is not missed. */
  readonly anchor?: RevocationAnchor | undefined;
  readonly maxDigests?: number | undefined;
  /** Milliseconds since 1970; default the system's clock. */
  readonly now?: (() => number) | undefined;
}

/** A statement and whether it counts now. */
export interface StatementView {
  readonly statement: PropertyStatement;
  readonly set: PropertySet;
  readonly verdict: Verdict;
}

/**
 * A statement whose file was read at the start. Its signature is checked when it first matters, because checking 100,000 takes longer than
 * guests should wait for the daemon.
 */
class UncheckedStatement implements KeptStatement {
  private checked: { readonly refusal: KeptStatement['refusal'] } | undefined;

  constructor(
    readonly statement: PropertyStatement,
    readonly set: PropertySet,
    /** One for all, so that none keeps its file's text in memory. */
    private readonly check: (statement: PropertyStatement) => KeptStatement['refusal'],
  ) {}

  get refusal(): KeptStatement['refusal'] {
    this.checked ??= { refusal: this.check(this.statement) };
    return this.checked.refusal;
  }
}

/** The statements in force. Changes take effect for a guest with its next reset. */
export class Catalog {
  /** What could not be read at the start, for the log; the first hundred. */
  readonly problems: string[] = [];
  private readonly statements: SignedFiles;
  private readonly lists: SignedFiles;
  private readonly index: StatementIndex;
  private readonly trust: Trust;
  private readonly anchor: RevocationAnchor | undefined;
  private readonly now: () => number;
  private readonly sets = new Map<string, PropertySet>();
  private readonly held = new Map<string, WeakRef<StatementSnapshot>>();
  private revocations = new Map<string, IssuerRevocations>();
  private numbers = new Map<string, number>();
  private latest: StatementSnapshot | undefined;
  private readonly changes = new SerialQueue();

  private constructor({ directory, trust, anchor, maxDigests, now }: CatalogOptions) {
    this.statements = new SignedFiles(join(directory, 'statements'));
    this.lists = new SignedFiles(join(directory, 'revocations'));
    this.index = new StatementIndex(maxDigests ?? DEFAULT_MAX_DIGESTS);
    this.trust = trust;
    this.anchor = anchor;
    this.now = now ?? Date.now;
  }

  /** Reads and checks all files. What is wrong with one of them does not stop the others; see {@link problems}. */
  static async open(options: CatalogOptions): Promise<Catalog> {
    const catalog = new Catalog(options);
    await catalog.load();
    return catalog;
  }

  /** Number of statements, in force or not. */
  get size(): number {
    return this.index.size;
  }

  /** The statements as they are now. Takes constant time. */
  snapshot(): StatementSnapshot {
    const time = this.now();
    const { latest } = this;
    if (latest?.time === time) return latest;
    const missing = new Set(
      [...this.numbers].filter(([issuer, number]) => (this.revocations.get(issuer)?.number ?? 0) < number).map(([name]) => name),
    );
    const snapshot = new StatementSnapshot(randomBytes(16).toString('hex'), time, this.index.share(), new Map(this.revocations), missing);
    this.latest = snapshot;
    this.hold(snapshot);
    return snapshot;
  }

  /** A snapshot that is still in use somewhere, by its identifier. */
  heldSnapshot(id: string): StatementSnapshot | undefined {
    return this.held.get(id)?.deref();
  }

  /**
   * Takes a statement: the text of an envelope. Resolves with it when it is durable. Rejects with {@link PropertyError}; one that is
   * not valid yet is taken, one that has expired is not.
   */
  add(text: string): Promise<PropertyStatement> {
    return this.changes.run(async () => {
      const envelope = parseEnvelope(text);
      const statement = readStatement(envelope);
      await this.trust.checkStatement(envelope, statement);
      if (statement.notAfter <= this.now()) {
        throw new PropertyError('expired', `it was valid until ${new Date(statement.notAfter).toISOString()}`);
      }
      this.index.add({ statement, set: this.sharedSet(statement), refusal: undefined });
      this.latest = undefined;
      this.statements.write(statement.id, text);
      return statement;
    });
  }

  /** Forgets a statement and deletes its file; false if there is none. This is not a revocation: whoever has the file can add it again. */
  remove(id: string): Promise<boolean> {
    return this.changes.run(() => {
      const found = this.index.remove(id);
      this.latest = undefined;
      if (found) this.statements.remove(id);
      return Promise.resolve(found);
    });
  }

  /**
   * Takes a revocation list: the text of an envelope. Resolves when it is durable. Rejects with {@link PropertyError}, `outdated` if the
   * issuer's present list has the same or a higher number.
   */
  revoke(text: string): Promise<RevocationList> {
    return this.changes.run(async () => {
      const envelope = parseEnvelope(text);
      const list = readRevocations(envelope);
      await this.trust.checkRevocations(envelope, list.issuer);
      const present = Math.max(this.numbers.get(list.issuer) ?? 0, this.revocations.get(list.issuer)?.number ?? 0);
      const isSame = this.lists.read(issuerId(list.issuer)) === text;
      if (list.number <= present && !(isSame || (list.number === present && !this.revocations.has(list.issuer)))) {
        throw new PropertyError(
          'outdated',
          `list ${list.number.toString()} of issuer ${list.issuer} is not above ${present.toString()}, which is known`,
        );
      }
      this.lists.write(issuerId(list.issuer), text);
      this.numbers.set(list.issuer, list.number);
      await this.anchor?.save(this.numbers);
      this.revocations.set(list.issuer, revocationsOf(list));
      this.latest = undefined;
      return list;
    });
  }

  /** All statements, in force or not. Checks those that were not checked yet, with other work in between. */
  async list(): Promise<StatementView[]> {
    const snapshot = this.snapshot();
    const views: StatementView[] = [];
    for (const kept of [...this.index.values()]) {
      if (views.length % LIST_BATCH === 0) await setImmediate();
      views.push({ statement: kept.statement, set: kept.set, verdict: snapshot.verdict(kept) });
    }
    return views;
  }

  /** One statement and its envelope's text; undefined if there is none. */
  get(id: string): (StatementView & { readonly envelope: string }) | undefined {
    const kept = this.index.get(id);
    const envelope = kept === undefined ? undefined : this.statements.read(id);
    if (kept === undefined || envelope === undefined) return undefined;
    return { statement: kept.statement, set: kept.set, verdict: this.snapshot().verdict(kept), envelope };
  }

  /** The revocation list of an issuer as it was signed; undefined if there is none. */
  revocationList(issuer: string): { readonly list: RevocationList; readonly envelope: string } | undefined {
    const envelope = this.revocations.has(issuer) ? this.lists.read(issuerId(issuer)) : undefined;
    return envelope === undefined ? undefined : { list: readRevocations(parseEnvelope(envelope)), envelope };
  }

  private async load(): Promise<void> {
    this.numbers = new Map(this.anchor?.load() ?? []);
    for (const file of this.lists.all()) {
      await this.reading(file.path, async () => {
        const envelope = parseEnvelope(textOf(file));
        const list = readRevocations(envelope);
        await this.trust.checkRevocations(envelope, list.issuer);
        if (list.number < (this.numbers.get(list.issuer) ?? 0))
          throw new PropertyError('outdated', `an older revocation list of issuer ${list.issuer}`);
        this.revocations.set(list.issuer, revocationsOf(list));
        this.numbers.set(list.issuer, list.number);
      });
    }
    for (const file of this.statements.all()) {
      await this.reading(file.path, () => {
        const statement = readStatement(parseEnvelope(textOf(file)));
        this.index.add(new UncheckedStatement(statement, this.sharedSet(statement), this.refusalOf));
      });
    }
  }

  /** Why a statement of a file that was read at the start does not count; its signature is checked, not believed to have been. */
  private readonly refusalOf = (statement: PropertyStatement): KeptStatement['refusal'] => {
    try {
      const text = this.statements.read(statement.id);
      if (text === undefined) throw new PropertyError('malformed', 'its file is gone');
      const envelope = parseEnvelope(text);
      if (payloadId(envelope.payload) !== statement.id) throw new PropertyError('malformed', 'its file has become another one');
      this.trust.requireStatement(envelope, statement);
      return undefined;
    } catch (error) {
      return { code: error instanceof PropertyError ? error.code : 'malformed', why: reasonOf(error) };
    }
  };

  /** Equal sets of properties are one object, so that many statements with the same properties take little memory. */
  private sharedSet(statement: PropertyStatement): PropertySet {
    const set = PropertySet.of(statement.properties);
    const shared = this.sets.get(set.canonical) ?? set;
    this.sets.set(set.canonical, shared);
    return shared;
  }

  private async reading(path: string, read: () => Promise<void> | void): Promise<void> {
    try {
      await read();
    } catch (error) {
      if (!(error instanceof PropertyError)) throw error;
      if (this.problems.length < MAX_PROBLEMS) this.problems.push(`${path}: ${error.message}`);
    }
  }

  private hold(snapshot: StatementSnapshot): void {
    for (const [id, reference] of this.held) if (reference.deref() === undefined) this.held.delete(id);
    this.held.set(snapshot.id, new WeakRef(snapshot));
  }
}

function textOf(file: { readonly text?: string; readonly problem?: string }): string {
  if (file.text === undefined) throw new PropertyError('malformed', file.problem ?? 'it cannot be read');
  return file.text;
}

/** What the list of an issuer is stored under. */
function issuerId(issuer: string): string {
  return createHash('sha256').update(issuer, 'utf8').digest('hex');
}

/** The identifier of an envelope's statement. Throws {@link PropertyError}. */
export function statementIdOf(text: string): string {
  return payloadId(parseEnvelope(text).payload);
}
