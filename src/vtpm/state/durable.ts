import { reasonOf } from '../../failure.js';
import type { GuestRecords, RecordChanges } from '../../store/guest-records.js';
import { StoreError } from '../../store/store-error.js';
import { decode, encode, type Schema } from '../../tpm/schema.js';

/**
 * Non-volatile memory of one vTPM. A command puts changes here; the dispatcher commits them all, in one
 * transaction, before the response is given.
 */
export class DurableState {
  /** Whether the platform lets the TPM write: with false everything that would is {@link NvUnavailable}. */
  available = true;
  private readonly records: GuestRecords;
  private pending = new Map<string, Buffer | null>();
  private erasing = false;

  constructor(records: GuestRecords) {
    this.records = records;
  }

  /** Whether something waits for {@link commit}. */
  get dirty(): boolean {
    return this.pending.size > 0;
  }

  /** Replaces record `key`. The value is encoded now, so later changes of it need another put. */
  put<T>(key: string, schema: Schema<T>, value: T): void {
    this.pending.set(key, encode(schema, value));
  }

  delete(key: string): void {
    this.pending.set(key, null);
  }

  /** Throws {@link NvUnavailable}, and forgets what waits, if NV is off. */
  requireAvailable(): void {
    if (this.available) return;
    this.pending = new Map();
    throw new NvUnavailable();
  }

  /** With the next {@link commit} nothing of what was there before can be read any more, in older bytes of the disk either. */
  eraseOld(): void {
    this.erasing = true;
  }

  /** Whether {@link eraseOld} was called since the last commit. */
  get erases(): boolean {
    return this.erasing;
  }

  /** One record as last committed, or undefined if there is none. */
  async load<T>(key: string, schema: Schema<T>): Promise<T | undefined> {
    const found = (await this.records.load(key)).find(([name]) => name === key);
    return found && decodeRecord(key, schema, found[1]);
  }

  /** All records below `prefix`, as last committed, by the rest of their key. */
  async loadAll<T>(prefix: string, schema: Schema<T>): Promise<[rest: string, value: T][]> {
    const found = await this.records.load(prefix);
    return found.map(([key, bytes]) => [key.slice(prefix.length), decodeRecord(key, schema, bytes)]);
  }

  /**
   * Makes all changes durable. If that fails with {@link NotDurable} they are forgotten, and memory is ahead of the disk: the vTPM
   * must go back to where it was. Rejects with {@link NvUnavailable} while it is not {@link available}.
   */
  async commit(): Promise<void> {
    this.requireAvailable();
    const changes: RecordChanges = this.pending;
    const erases = this.erasing;
    this.pending = new Map();
    this.erasing = false;
    try {
      await this.records.commit(changes, erases);
    } catch (error) {
      throw new NotDurable(error);
    }
  }
}

/** Changes that could not be made durable; `cause` tells why. None of them was. */
export class NotDurable extends Error {
  override readonly name: string = 'NotDurable';

  constructor(cause: unknown) {
    super(reasonOf(cause), { cause });
  }
}

/** Changes that cannot be made because the platform has turned NV off. None of them was. */
export class NvUnavailable extends NotDurable {
  override readonly name = 'NvUnavailable';

  constructor() {
    super('NV is off');
  }
}

/** Every record that has a version has this one; what a newer tpmux wrote is not guessed at. */
const RECORD_VERSION = 1;

function decodeRecord<T>(key: string, schema: Schema<T>, bytes: Buffer): T {
  const value = decode(schema, bytes);
  if (typeof value === 'object' && value !== null && 'version' in value && value.version !== RECORD_VERSION) {
    throw new StoreError(
      'reading the state of a guest',
      `record '${key}' has format ${String(value.version)}, this tpmux knows up to ${RECORD_VERSION.toString()}`,
      'use the newer tpmux that wrote it',
      { record: key },
    );
  }
  return value;
}
