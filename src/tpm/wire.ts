// TPM 2.0 Library Part 1, 5 and 18: the canonical (big-endian, unaligned) form of structures.
import { TPM_RC, TpmError } from './response-code.js';

/** A number as two bytes. */
export function uint16Bytes(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

/** A number as four bytes; a negative one as its two's complement. */
export function uint32Bytes(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

/**
 * Reads a canonical byte stream. Every method checks the length that is left and throws
 * `TPM_RC_INSUFFICIENT` without moving when there is too little.
 */
export class Reader {
  private readonly bytes: Buffer;
  private at: number;
  private end: number;
  /**
   * True when the peer is a TPM whose algorithms may be more than ours: interface types then check only the
   * width of a value, not whether it is in our set.
   */
  readonly lenient: boolean;

  /** @param at offset of the first byte that is read */
  constructor(bytes: Buffer, lenient = false, at = 0) {
    this.bytes = bytes;
    this.at = at;
    this.end = bytes.length;
    this.lenient = lenient;
  }

  /** Bytes not yet read. */
  get remaining(): number {
    return this.end - this.at;
  }

  /** Offset of the next byte. */
  get offset(): number {
    return this.at;
  }

  uint8(): number {
    return this.bytes.readUInt8(this.advance(1));
  }

  uint16(): number {
    return this.bytes.readUInt16BE(this.advance(2));
  }

  uint32(): number {
    return this.bytes.readUInt32BE(this.advance(4));
  }

  int32(): number {
    return this.bytes.readInt32BE(this.advance(4));
  }

  uint64(): bigint {
    return this.bytes.readBigUInt64BE(this.advance(8));
  }

  /** A view of the next `size` bytes; whoever keeps it beyond the command copies it. */
  view(size: number): Buffer {
    const start = this.advance(size);
    return this.bytes.subarray(start, start + size);
  }

  /** Runs `read` on exactly the next `size` bytes. `TPM_RC_SIZE` if it leaves some over. */
  within<T>(size: number, read: (reader: Reader) => T): T {
    if (size > this.remaining) throw new TpmError(TPM_RC.INSUFFICIENT);
    const outer = this.end;
    this.end = this.at + size;
    try {
      const value = read(this);
      if (this.at !== this.end) throw new TpmError(TPM_RC.SIZE);
      return value;
    } finally {
      this.end = outer;
    }
  }

  private advance(size: number): number {
    if (size > this.end - this.at) throw new TpmError(TPM_RC.INSUFFICIENT);
    const start = this.at;
    this.at += size;
    return start;
  }
}

/** Appends canonical values to a buffer that grows as needed. */
export class Writer {
  private bytes: Buffer;
  private length = 0;

  constructor(capacity = 256) {
    this.bytes = Buffer.allocUnsafe(capacity);
  }

  /** Bytes written so far. */
  get size(): number {
    return this.length;
  }

  uint8(value: number): void {
    const at = this.grow(1);
    this.bytes.writeUInt8(value, at);
  }

  uint16(value: number): void {
    const at = this.grow(2);
    this.bytes.writeUInt16BE(value, at);
  }

  uint32(value: number): void {
    const at = this.grow(4);
    this.bytes.writeUInt32BE(value, at);
  }

  int32(value: number): void {
    const at = this.grow(4);
    this.bytes.writeInt32BE(value, at);
  }

  uint64(value: bigint): void {
    const at = this.grow(8);
    this.bytes.writeBigUInt64BE(value, at);
  }

  raw(value: Uint8Array): void {
    const at = this.grow(value.length);
    this.bytes.set(value, at);
  }

  /** Writes what `write` writes, preceded by its size in 16 bits. */
  sized(write: () => void): void {
    const start = this.grow(2);
    write();
    this.bytes.writeUInt16BE(this.length - start - 2, start);
  }

  /** Puts a 32-bit value at `offset`, which was written before. */
  patch32(offset: number, value: number): void {
    this.bytes.writeUInt32BE(value, offset);
  }

  /** What was written, as a view; the writer is not used after that. */
  finish(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  private grow(size: number): number {
    const start = this.length;
    if (start + size > this.bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, start + size));
      this.bytes.copy(larger, 0, 0, start);
      this.bytes.fill(0);
      this.bytes = larger;
    }
    this.length = start + size;
    return start;
  }
}
