// The audit log: one JSON document per line, each with the hash of the line before it, so that what was written cannot be changed or
// taken out without a trace. Nothing in it is secret.
import { createHash } from 'node:crypto';
import { open, readFile, truncate, type FileHandle } from 'node:fs/promises';
import * as v from 'valibot';
import { EXIT, Failure, reasonOf, systemCode } from '../failure.js';
import { SerialQueue } from '../serial-queue.js';

/** What the log is about. */
type AuditEvent =
  | 'log-begun'
  | 'log-repaired'
  | 'guest-created'
  | 'guest-removed'
  | 'guest-refused'
  | 'guest-exported'
  | 'guest-imported'
  | 'guest-repaired'
  | 'guest-reset'
  | 'policy-changed'
  | 'provider-failed'
  | 'host-resealed'
  | 'rollback-allowed'
  | 'rollback-refused'
  | 'migration-out'
  | 'migration-in';

/** What a caller says of something that happened. */
export interface AuditNote {
  readonly event: AuditEvent;
  /** Name of the guest. */
  readonly guest?: string | undefined;
  readonly id?: string | undefined;
  /** Anything else, for people. */
  readonly detail?: string | undefined;
}

/** Where events go. Rejects with a {@link Failure} if they cannot be kept. */
export interface AuditSink {
  note(note: AuditNote): Promise<void>;
}

const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const entrySchema = v.strictObject({
  version: v.literal(1),
  number: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  time: v.pipe(v.string(), v.isoTimestamp()),
  event: v.string(),
  guest: v.optional(v.string()),
  id: v.optional(v.string()),
  detail: v.optional(v.string()),
  /** SHA-256 of the line before, without its newline, in hexadecimal; zeros in the first. */
  previous: sha256,
});
/** One line. */
export type AuditEntry = v.InferOutput<typeof entrySchema>;

/** Schema of an {@link AuditHead}. */
export const auditHead = v.strictObject({
  entries: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  /** SHA-256 of the last line, in hexadecimal. */
  hash: sha256,
});
/** Where the log ends. */
export type AuditHead = Readonly<v.InferOutput<typeof auditHead>>;

/** What {@link readAudit} found. */
export interface AuditReport {
  readonly entries: readonly AuditEntry[];
  readonly head: AuditHead;
  /** What is wrong, by line; empty if nothing. */
  readonly problems: readonly string[];
}

const NO_LINE = '0'.repeat(64);
const EMPTY: AuditHead = { entries: 0, hash: NO_LINE };
const hashOf = (line: string): string => createHash('sha256').update(line, 'utf8').digest('hex');

/** Reads and checks a log; a file that is not there is an empty one. */
export async function readAudit(path: string): Promise<AuditReport> {
  return checkAudit(await readText(path));
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return '';
    throw unusable(path, 'reading', error);
  }
}

function checkAudit(text: string): AuditReport {
  const lines = text.split('\n');
  const rest = lines.pop();
  const entries: AuditEntry[] = [];
  const problems: string[] = [];
  let previous = NO_LINE;
  lines.forEach((line, i) => {
    const entry = parseLine(line);
    const at = `line ${(i + 1).toString()}`;
    if (entry === undefined) problems.push(`${at} is no entry`);
    else {
      if (entry.number !== i + 1) problems.push(`${at} has number ${entry.number.toString()}`);
      if (entry.previous !== previous) problems.push(`${at} does not follow from the line before it`);
      entries.push(entry);
    }
    previous = hashOf(line);
  });
  if (rest !== '') problems.push('the last line is cut short');
  return { entries, head: { entries: lines.length, hash: previous }, problems };
}

function parseLine(line: string): AuditEntry | undefined {
  try {
    const result = v.safeParse(entrySchema, JSON.parse(line));
    return result.success ? result.output : undefined;
  } catch {
    return undefined;
  }
}

/** Where the last head is kept besides the log, to tell that lines at its end are missing. */
export interface AuditAnchor {
  load(): AuditHead | undefined;
  save(head: AuditHead): Promise<void>;
}

/** The log of one state directory, open for more. */
export class AuditLog implements AuditSink {
  private readonly queue = new SerialQueue();

  private constructor(
    private readonly path: string,
    private readonly anchor: AuditAnchor,
    private head: AuditHead,
    private size: number,
  ) {}

  /**
   * Opens the log, and begins it if there is none. A line that a crash cut short was never acknowledged and is taken off; a log that
   * is damaged otherwise is continued, with an entry that says so: nothing in it is changed.
   */
  static async open(path: string, anchor: AuditAnchor): Promise<AuditLog> {
    const text = await readText(path);
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    const { head, problems } = checkAudit(whole);
    const size = Buffer.byteLength(whole);
    if (whole.length < text.length) await truncate(path, size);
    const log = new AuditLog(path, anchor, head, size);
    const found = [...problems, ...missingLines(head, anchor.load())];
    if (head.entries === 0 && found.length === 0) await log.note({ event: 'log-begun' });
    if (found.length > 0) await log.note({ event: 'log-repaired', detail: `continued after damage: ${found.slice(0, 5).join('; ')}` });
    return log;
  }

  /** Resolves when the entry survives power loss. */
  note(note: AuditNote): Promise<void> {
    return this.queue.run(async () => {
      const entry = { version: 1, number: this.head.entries + 1, time: new Date().toISOString(), ...note, previous: this.head.hash };
      const line = JSON.stringify(entry);
      const handle = await open(this.path, 'a', 0o600).catch((error: unknown) => {
        throw unusable(this.path, 'writing', error);
      });
      try {
        await this.append(handle, `${line}\n`);
      } catch (error) {
        throw unusable(this.path, 'writing', error);
      } finally {
        await handle.close();
      }
      this.head = { entries: entry.number, hash: hashOf(line) };
      await this.anchor.save(this.head);
    });
  }

  /** Reads and checks it as it is on the disk. */
  read(): Promise<AuditReport> {
    return this.queue.run(async () => {
      const report = await readAudit(this.path);
      return { ...report, problems: [...report.problems, ...missingLines(report.head, this.anchor.load())] };
    });
  }

  private async append(handle: FileHandle, line: string): Promise<void> {
    // What a write left that failed half-way.
    if ((await handle.stat()).size > this.size) await handle.truncate(this.size);
    await handle.appendFile(line, 'utf8');
    await handle.sync();
    this.size += Buffer.byteLength(line);
  }
}

/** A log may be ahead of its anchor by what was written when a crash came; it may not be behind. */
function missingLines(head: AuditHead, anchor: AuditHead | undefined): string[] {
  const expected = anchor ?? EMPTY;
  if (head.entries < expected.entries) {
    return [`it ends after line ${head.entries.toString()}, and had ${expected.entries.toString()}`];
  }
  return head.entries === expected.entries && head.hash !== expected.hash ? ['its last line is not the one that was written'] : [];
}

function unusable(path: string, doing: string, cause: unknown): Failure {
  return new Failure(
    {
      code: 'audit_log',
      what: `${doing} the audit log ${path}`,
      why: reasonOf(cause),
      hint: 'check the disk of the state directory',
      exit: EXIT.failed,
    },
    { cause },
  );
}
