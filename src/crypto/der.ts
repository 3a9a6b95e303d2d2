// ITU-T X.690: the part of DER that X.509 certificates of TPM keys need. Tags are single bytes and lengths at most two.

/** Tags as they are encoded. */
export const DER_TAG = {
  INTEGER: 0x02,
  BIT_STRING: 0x03,
  OCTET_STRING: 0x04,
  NULL: 0x05,
  OBJECT_IDENTIFIER: 0x06,
  SEQUENCE: 0x30,
  /** Plus a number up to 30: constructed, context-specific. */
  CONTEXT: 0xa0,
} as const;

/** One element; views of what it was read from. */
export interface DerElement {
  readonly tag: number;
  readonly content: Buffer;
  /** Tag and length included. */
  readonly encoded: Buffer;
}

const MULTI_BYTE_TAG = 0x1f;

/** The element at the beginning of `bytes`; undefined if there is none, or not in DER. */
export function readElement(bytes: Buffer): DerElement | undefined {
  const [tag, first] = bytes;
  if (tag === undefined || first === undefined || (tag & MULTI_BYTE_TAG) === MULTI_BYTE_TAG) return undefined;
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  if (lengthBytes > 2 || first === 0x80 || bytes.length < 2 + lengthBytes) return undefined;
  const length = lengthBytes === 0 ? first : bytes.readUIntBE(2, lengthBytes);
  const isShortest = lengthBytes === 0 || (lengthBytes === 1 ? length >= 0x80 : length >= 0x100);
  const start = 2 + lengthBytes;
  if (!isShortest || start + length > bytes.length) return undefined;
  return { tag, content: bytes.subarray(start, start + length), encoded: bytes.subarray(0, start + length) };
}

/** The elements that `bytes` is made of; undefined if it is not. */
export function readElements(bytes: Buffer): DerElement[] | undefined {
  const elements: DerElement[] = [];
  for (let rest = bytes; rest.length > 0;) {
    const element = readElement(rest);
    if (element === undefined) return undefined;
    elements.push(element);
    rest = rest.subarray(element.encoded.length);
  }
  return elements;
}

/**
 * Bits of a `BIT STRING` of at most 32, the first as the most significant of a 32-bit number; undefined if the element is none, or longer.
 */
export function readBits({ tag, content }: DerElement): number | undefined {
  const [unused] = content;
  const bytes = content.subarray(1);
  if (tag !== DER_TAG.BIT_STRING || unused === undefined || unused > 7 || bytes.length > 4) return undefined;
  if (bytes.length === 0) return unused === 0 ? 0 : undefined;
  const padded = Buffer.alloc(4);
  bytes.copy(padded);
  padded[bytes.length - 1] = ((padded[bytes.length - 1] ?? 0) >> unused) << unused;
  return padded.readUInt32BE(0);
}

/** An element with these contents. `RangeError` if they are longer than 65535 bytes. */
export function element(tag: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  if (length > 0xffff) throw new RangeError('contents too long');
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...size), content]);
}

/** `SEQUENCE` of these elements. */
export function sequence(...elements: readonly Buffer[]): Buffer {
  return element(DER_TAG.SEQUENCE, ...elements);
}

/** `INTEGER` of a big-endian number that is not negative. */
export function integer(number: Buffer): Buffer {
  const start = number.findIndex((byte) => byte !== 0);
  const significant = start < 0 ? Buffer.of(0) : number.subarray(start);
  return element(DER_TAG.INTEGER, (significant[0] ?? 0) >= 0x80 ? Buffer.of(0) : Buffer.alloc(0), significant);
}

/** `INTEGER` of a number below 2³². */
export function smallInteger(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number);
  return integer(bytes);
}

/** `BIT STRING` of whole bytes. */
export function bitString(...contents: readonly Buffer[]): Buffer {
  return element(DER_TAG.BIT_STRING, Buffer.of(0), ...contents);
}

/** `OBJECT IDENTIFIER` in its dotted form. */
export function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return element(DER_TAG.OBJECT_IDENTIFIER, Buffer.from([first * 40 + second, ...rest].flatMap(base128)));
}

function base128(number: number): number[] {
  const digits = [number & 0x7f];
  for (let rest = number >>> 7; rest > 0; rest >>>= 7) digits.unshift((rest & 0x7f) | 0x80);
  return digits;
}

/** `NULL`. */
export const nullElement = element(DER_TAG.NULL);
