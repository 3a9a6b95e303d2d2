// The volatile state of one guest in a file, so that it outlives the process. The page cache is enough for that: nothing is flushed.
//
//   header  'TPMXJRNL' || version (2) || size of guest id (1) || guest id || boot id (16) || journal id (16) || salt (32)
//   record  size (4) || number (8) || check (4) || AES-256-GCM(key, changes) || tag (16)
//   keys    HKDF-SHA-256(journal key, salt, 'tpmux volatile journal'), 64 bytes: key, check key; the nonce is the number
//   AAD     tag of the record before (of the first: 16 bytes of SHA-256 of the header) || number
//   check   4 bytes of HMAC-SHA-256(check key, size || number): a size that was damaged is no end that was cut off
import { createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { AEAD_NONCE_SIZE, AEAD_TAG_SIZE, openAead, sealAead } from '../crypto/aead.js';
import { reasonOf, systemCode } from '../failure.js';
import { decodeChanges, encodeChanges, type JournalRecord, type SectionChange } from './journal-record.js';
import { JournalRefused, JournalUnwritable, type KeptJournal, type StateJournal } from './state-journal.js';

const MAGIC = Buffer.from('TPMXJRNL', 'latin1');
const VERSION = 1;
const ID_SIZE = 16;
const SALT_SIZE = 32;
const RECORD_HEAD = 16;

/** Where a journal is, and whose. */
export interface JournalPlace {
  readonly path: string;
  /** At most 255 Latin-1 characters. */
  readonly guestId: string;
  /** Tells one boot of the host from another: volatile state does not outlive it. 16 bytes. */
  readonly bootId: Buffer;
}

/** The key of a guest's journals: 32 bytes, from the 32 bytes of its state key. */
export function deriveJournalKey(stateKey: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', stateKey, Buffer.alloc(0), 'tpmux volatile journals', 32));
}

/** The keys of one file: 64 bytes, and views of both. */
interface FileKeys {
  readonly all: Buffer;
  readonly seal: Buffer;
  readonly check: Buffer;
}

interface OpenFile {
  readonly fd: number;
  readonly keys: FileKeys;
  /** Bytes that count. */
  size: number;
  /** What the next record is chained to. */
  last: Buffer;
}

/** Reads and writes the journal of one guest as a file. No call costs a flush. */
export class VolatileJournal implements StateJournal {
  private readonly journalKey: Buffer;
  private file: OpenFile | undefined;
  private number = 0n;
  private journalId = randomBytes(ID_SIZE);
  /** The file before the last record, to take it back. */
  private before: { readonly size: number; readonly last: Buffer } | undefined;
  /** The file has bytes behind those that count, which could not be cut off. */
  private overlong = false;

  /** @param key what {@link deriveJournalKey} gave; it is copied */
  constructor(
    private readonly place: JournalPlace,
    key: Buffer,
  ) {
    this.journalKey = Buffer.from(key);
  }

  get id(): Buffer {
    return this.journalId;
  }

  get lastNumber(): bigint {
    return this.number;
  }

  get size(): number {
    return this.file?.size ?? 0;
  }

  read(): KeptJournal | undefined {
    let bytes: Buffer;
    try {
      bytes = readFileSync(this.place.path);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw new JournalRefused(`it cannot be read: ${reasonOf(error)}`, { cause: error });
    }
    return this.parse(this.file === undefined ? bytes : bytes.subarray(0, this.file.size));
  }

  begin(changes: readonly SectionChange[], renew: boolean): void {
    const { path } = this.place;
    const fresh = `${path}.new`;
    const salt = randomBytes(SALT_SIZE);
    const id = renew ? randomBytes(ID_SIZE) : this.journalId;
    const header = this.header(id, salt);
    const keys = this.fileKeys(salt);
    const record = this.seal({ keys, last: chainStart(header) }, changes, false);
    let fd: number | undefined;
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      fd = openSync(fresh, 'w', 0o600);
      writeAll(fd, Buffer.concat([header, record.bytes]), 0);
      renameSync(fresh, path);
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      keys.all.fill(0);
      discard(fresh);
      throw new JournalUnwritable(reasonOf(error), { cause: error });
    }
    this.release();
    this.journalId = id;
    this.overlong = false;
    this.before = undefined;
    this.file = { fd, keys, size: header.length + record.bytes.length, last: record.tag };
  }

  append(changes: readonly SectionChange[], withCommit: boolean): void {
    const { file } = this;
    if (file === undefined) throw new JournalUnwritable('there is no journal');
    if (this.overlong) this.cut(file.size);
    const { bytes, tag } = this.seal(file, changes, withCommit);
    try {
      writeAll(file.fd, bytes, file.size);
    } catch (error) {
      this.overlong = true;
      throw new JournalUnwritable(reasonOf(error), { cause: error });
    }
    this.before = { size: file.size, last: file.last };
    file.size += bytes.length;
    file.last = tag;
  }

  takeBack(): void {
    const { file, before } = this;
    if (file === undefined || before === undefined) return;
    this.before = undefined;
    file.size = before.size;
    file.last = before.last;
    this.overlong = true;
    this.append([], false);
  }

  end(): void {
    this.release();
    for (const path of [this.place.path, `${this.place.path}.new`]) rmSync(path, { force: true });
  }

  release(): void {
    if (this.file === undefined) return;
    closeSync(this.file.fd);
    this.file.keys.all.fill(0);
    this.file = undefined;
  }

  private cut(size: number): void {
    const fd = this.file?.fd;
    if (fd === undefined) return;
    try {
      ftruncateSync(fd, size);
      this.overlong = false;
    } catch (error) {
      throw new JournalUnwritable(reasonOf(error), { cause: error });
    }
  }

  private seal(
    { keys, last }: Pick<OpenFile, 'keys' | 'last'>,
    changes: readonly SectionChange[],
    withCommit: boolean,
  ): { bytes: Buffer; tag: Buffer } {
    const number = ++this.number;
    const clear = encodeChanges(withCommit, changes);
    const head = recordHead(keys, clear.length + AEAD_TAG_SIZE, number);
    const sealed = sealAead(keys.seal, nonceOf(number), associated(last, number), clear);
    clear.fill(0);
    return { bytes: Buffer.concat([head, sealed]), tag: sealed.subarray(sealed.length - AEAD_TAG_SIZE) };
  }

  private parse(bytes: Buffer): KeptJournal | undefined {
    const { header, bootId, id, salt } = this.parseHeader(bytes);
    const keys = this.fileKeys(salt);
    const records: JournalRecord[] = [];
    try {
      let last = chainStart(header);
      let at = header.length;
      for (let next = readRecord(keys, bytes, at, last); next !== undefined; next = readRecord(keys, bytes, at, last)) {
        records.push(next.record);
        ({ last, end: at } = next);
      }
    } finally {
      keys.all.fill(0);
    }
    if (records.length === 0) throw new JournalRefused('it is cut off');
    if (!bootId.equals(this.place.bootId)) return undefined;
    return { id: Buffer.from(id), records };
  }

  private parseHeader(bytes: Buffer): { header: Buffer; bootId: Buffer; id: Buffer; salt: Buffer } {
    const fixed = MAGIC.length + 3;
    if (bytes.length < fixed || !bytes.subarray(0, MAGIC.length).equals(MAGIC))
      throw new JournalRefused('it is no journal of tpmux, or cut off');
    const version = bytes.readUInt16BE(MAGIC.length);
    if (version !== VERSION) {
      throw new JournalRefused(`it has format version ${version.toString()}, this tpmux reads version ${VERSION.toString()}`);
    }
    const idEnd = fixed + bytes.readUInt8(fixed - 1);
    const size = idEnd + 2 * ID_SIZE + SALT_SIZE;
    if (bytes.length < size) throw new JournalRefused('it is cut off');
    const owner = bytes.subarray(fixed, idEnd).toString('latin1');
    if (owner !== this.place.guestId) throw new JournalRefused(`it belongs to guest ${JSON.stringify(owner)}`);
    return {
      header: bytes.subarray(0, size),
      bootId: bytes.subarray(idEnd, idEnd + ID_SIZE),
      id: bytes.subarray(idEnd + ID_SIZE, idEnd + 2 * ID_SIZE),
      salt: bytes.subarray(size - SALT_SIZE, size),
    };
  }

  private header(id: Buffer, salt: Buffer): Buffer {
    const owner = Buffer.from(this.place.guestId, 'latin1');
    const fixed = Buffer.alloc(3);
    fixed.writeUInt16BE(VERSION);
    fixed.writeUInt8(owner.length, 2);
    return Buffer.concat([MAGIC, fixed, owner, this.place.bootId, id, salt]);
  }

  private fileKeys(salt: Buffer): FileKeys {
    const all = Buffer.from(hkdfSync('sha256', this.journalKey, salt, 'tpmux volatile journal', 64));
    return { all, seal: all.subarray(0, 32), check: all.subarray(32) };
  }
}

/** The record at `at`; undefined where the file ends, also in the middle of a record. Throws {@link JournalRefused}. */
function readRecord(
  keys: FileKeys,
  bytes: Buffer,
  at: number,
  last: Buffer,
): { record: JournalRecord; last: Buffer; end: number } | undefined {
  if (bytes.length - at < RECORD_HEAD) return undefined;
  const damaged = (): JournalRefused => new JournalRefused(`it is damaged at byte ${at.toString()}, or made under another state key`);
  const size = bytes.readUInt32BE(at);
  const number = bytes.readBigUInt64BE(at + 4);
  if (!recordHead(keys, size, number).equals(bytes.subarray(at, at + RECORD_HEAD))) throw damaged();
  const end = at + RECORD_HEAD + size;
  if (end > bytes.length) return undefined;
  const sealed = bytes.subarray(at + RECORD_HEAD, end);
  const clear = openAead(keys.seal, nonceOf(number), associated(last, number), sealed);
  if (clear === undefined) throw damaged();
  try {
    return { record: decodeChanges(number, clear), last: sealed.subarray(size - AEAD_TAG_SIZE), end };
  } catch (error) {
    throw new JournalRefused(`its record ${number.toString()} is not understood`, { cause: error });
  }
}

function recordHead({ check }: FileKeys, size: number, number: bigint): Buffer {
  const head = Buffer.alloc(RECORD_HEAD);
  head.writeUInt32BE(size);
  head.writeBigUInt64BE(number, 4);
  createHmac('sha256', check).update(head.subarray(0, 12)).digest().copy(head, 12, 0, 4);
  return head;
}

function nonceOf(number: bigint): Buffer {
  const nonce = Buffer.alloc(AEAD_NONCE_SIZE);
  nonce.writeBigUInt64BE(number, AEAD_NONCE_SIZE - 8);
  return nonce;
}

function associated(last: Buffer, number: bigint): Buffer {
  const aad = Buffer.alloc(AEAD_TAG_SIZE + 8);
  last.copy(aad);
  aad.writeBigUInt64BE(number, AEAD_TAG_SIZE);
  return aad;
}

function chainStart(header: Buffer): Buffer {
  return createHash('sha256').update(header).digest().subarray(0, AEAD_TAG_SIZE);
}

/** What cannot be removed is overwritten by the next attempt. */
function discard(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // The failure that led here is the one to be told.
  }
}

function writeAll(fd: number, bytes: Buffer, position: number): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}
