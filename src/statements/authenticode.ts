// Windows Authenticode Portable Executable Signature Format 1.0, "Calculating the PE Image Hash": what UEFI firmware measures of a boot
// loader or a kernel with an EFI stub. The numbers in a PE image are little-endian.
import { PropertyError } from './property-error.js';

const PE_POINTER = 0x3c;
const PE_SIGNATURE = 0x00004550;
const COFF_SIZE = 20;
const SECTION_SIZE = 40;
const CHECKSUM_SIZE = 4;
const DIRECTORY_SIZE = 8;
const CERTIFICATES = 4;
/** Where in the optional header the number of data directories is; they follow it. */
const DIRECTORY_COUNT: Readonly<Record<number, number>> = { 0x10b: 92, 0x20b: 108 };
const SIZE_OF_HEADERS = 60;
const CHECKSUM = 64;

/**
 * The parts of a PE image, in order, whose digest is its Authenticode digest: all but the checksum and the signatures, so a signed
 * image has the digest that it had before. Views of `image`. Throws {@link PropertyError} (malformed) if it is no such image.
 */
export function authenticodeParts(image: Buffer): Buffer[] {
  const { sectionTable, sections, optional, directories, headersSize } = headers(image);
  const checksum = optional + CHECKSUM;
  const entry = directories + CERTIFICATES * DIRECTORY_SIZE;
  const hasEntry = field(image, directories - 4, 4) > CERTIFICATES && entry + DIRECTORY_SIZE <= sectionTable;
  const certificatesSize = hasEntry ? field(image, entry + 4, 4) : 0;
  const afterChecksum = checksum + CHECKSUM_SIZE;
  const parts = [slice(image, 0, checksum)];
  if (hasEntry) parts.push(slice(image, afterChecksum, entry), slice(image, entry + DIRECTORY_SIZE, headersSize));
  else parts.push(slice(image, afterChecksum, headersSize));
  let hashed = headersSize;
  for (const { start, size } of sectionData(image, sectionTable, sections)) {
    parts.push(slice(image, start, start + size));
    hashed += size;
  }
  const end = image.length - certificatesSize;
  if (hashed > end) throw malformed('its parts overlap');
  parts.push(slice(image, hashed, end));
  return parts;
}

interface Headers {
  /** Offsets in the image. */
  readonly optional: number;
  readonly directories: number;
  readonly sectionTable: number;
  /** How many. */
  readonly sections: number;
  readonly headersSize: number;
}

function headers(image: Buffer): Headers {
  if (image.toString('latin1', 0, 2) !== 'MZ') throw malformed('it is no PE image');
  const pe = field(image, PE_POINTER, 4);
  if (field(image, pe, 4) !== PE_SIGNATURE) throw malformed('it is no PE image');
  const sections = field(image, pe + 6, 2);
  const optional = pe + 4 + COFF_SIZE;
  const sectionTable = optional + field(image, pe + 20, 2);
  const count = DIRECTORY_COUNT[field(image, optional, 2)];
  if (count === undefined) throw malformed('it has no PE32 or PE32+ header');
  const directories = optional + count + 4;
  const headersSize = field(image, optional + SIZE_OF_HEADERS, 4);
  if (directories > sectionTable || sectionTable + sections * SECTION_SIZE > headersSize) throw malformed('its headers are too short');
  return { optional, directories, sectionTable, sections, headersSize };
}

/** Of the sections that have data, where it is; in the order of the file. */
function sectionData(image: Buffer, table: number, count: number): { start: number; size: number }[] {
  return Array.from({ length: count }, (_, i) => {
    const at = table + i * SECTION_SIZE;
    return { size: field(image, at + 16, 4), start: field(image, at + 20, 4) };
  })
    .filter(({ size }) => size > 0)
    .sort((a, b) => a.start - b.start);
}

function field(image: Buffer, at: number, size: 2 | 4): number {
  if (at + size > image.length) throw malformed('it is cut off');
  return image.readUIntLE(at, size);
}

function slice(image: Buffer, from: number, to: number): Buffer {
  if (from > to || to > image.length) throw malformed('it is cut off');
  return image.subarray(from, to);
}

function malformed(why: string): PropertyError {
  return new PropertyError('malformed', `not an EFI program: ${why}`);
}
