// TCG PC Client Platform Firmware Profile, 10: event logs in the crypto-agile format, little-endian; read strictly, and written.
import { digestSize } from '../tpm/hash.js';

/** Types of events that matter here (10.4.1). */
export const EVENT_TYPE = {
  EV_PREBOOT_CERT: 0x00,
  EV_POST_CODE: 0x01,
  EV_NO_ACTION: 0x03,
  EV_SEPARATOR: 0x04,
  EV_ACTION: 0x05,
  EV_EVENT_TAG: 0x06,
  EV_S_CRTM_CONTENTS: 0x07,
  EV_S_CRTM_VERSION: 0x08,
  EV_CPU_MICROCODE: 0x09,
  EV_PLATFORM_CONFIG_FLAGS: 0x0a,
  EV_TABLE_OF_DEVICES: 0x0b,
  EV_COMPACT_HASH: 0x0c,
  EV_IPL: 0x0d,
  EV_IPL_PARTITION_DATA: 0x0e,
  EV_NONHOST_CODE: 0x0f,
  EV_NONHOST_CONFIG: 0x10,
  EV_NONHOST_INFO: 0x11,
  EV_OMIT_BOOT_DEVICE_EVENTS: 0x12,
  EV_EFI_VARIABLE_DRIVER_CONFIG: 0x80000001,
  EV_EFI_VARIABLE_BOOT: 0x80000002,
  EV_EFI_BOOT_SERVICES_APPLICATION: 0x80000003,
  EV_EFI_BOOT_SERVICES_DRIVER: 0x80000004,
  EV_EFI_RUNTIME_SERVICES_DRIVER: 0x80000005,
  EV_EFI_GPT_EVENT: 0x80000006,
  EV_EFI_ACTION: 0x80000007,
  EV_EFI_PLATFORM_FIRMWARE_BLOB: 0x80000008,
  EV_EFI_HANDOFF_TABLES: 0x80000009,
  EV_EFI_PLATFORM_FIRMWARE_BLOB2: 0x8000000a,
  EV_EFI_HANDOFF_TABLES2: 0x8000000b,
  EV_EFI_VARIABLE_BOOT2: 0x8000000c,
  EV_EFI_HCRTM_EVENT: 0x80000010,
  EV_EFI_VARIABLE_AUTHORITY: 0x800000e0,
} as const;

const TYPE_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(EVENT_TYPE).map(([name, type]) => [type, name]));

/** The name of an event's type; its number in hexadecimal if it has none here. */
export function eventTypeName(type: number): string {
  return TYPE_NAMES.get(type) ?? `0x${type.toString(16).padStart(8, '0')}`;
}

/** Bytes of a log, and events in it, at most. */
const MAX_EVENT_LOG = 16 * 1024 * 1024;
const MAX_EVENTS = 100_000;
const MAX_EVENT_DATA = 4 * 1024 * 1024;
const MAX_PCR = 23;
const MAX_ALGORITHMS = 16;
const SPEC_ID_SIGNATURE = 'Spec ID Event03\0';
const LOCALITY_SIGNATURE = 'StartupLocality\0';
const SHA1_SIZE = 20;

/** One event. */
export interface TcgEvent {
  readonly pcr: number;
  readonly type: number;
  /** In the order of the log. Algorithms that are not served are passed over. */
  readonly digests: readonly { readonly bank: number; readonly digest: Buffer }[];
  readonly data: Buffer;
}

/** A log that was read. */
export interface TcgEventLog {
  /** Algorithms of the log that are served (`TPM_ALG_ID`). */
  readonly banks: readonly number[];
  /** All events after the first, which names the algorithms. */
  readonly events: readonly TcgEvent[];
  /** Locality of TPM2_Startup, which PCR 0 starts from; 0 unless the log tells. */
  readonly startupLocality: number;
}

/** A log that is not one. */
export class EventLogError extends Error {
  override readonly name = 'EventLogError';
}

/** A little-endian reader that knows where it is. */
class LogReader {
  private at = 0;

  constructor(
    private readonly bytes: Buffer,
    private readonly base = 0,
  ) {}

  get done(): boolean {
    return this.at === this.bytes.length;
  }

  get offset(): number {
    return this.base + this.at;
  }

  /** Whether nothing follows but zeros, or nothing but ones: what is left of a log area of a fixed size. No event is like that that extends a PCR. */
  isPadding(): boolean {
    const first = this.bytes[this.at];
    return first === undefined || ((first === 0 || first === 0xff) && this.bytes.subarray(this.at).every((byte) => byte === first));
  }

  uint8(): number {
    return this.take(1).readUInt8();
  }

  uint16(): number {
    return this.take(2).readUInt16LE();
  }

  uint32(): number {
    return this.take(4).readUInt32LE();
  }

  take(size: number): Buffer {
    if (size > this.bytes.length - this.at) throw this.error(`${size.toString()} bytes are expected, the log ends before`);
    this.at += size;
    return this.bytes.subarray(this.at - size, this.at);
  }

  error(why: string): EventLogError {
    return new EventLogError(`at byte ${this.offset.toString()}: ${why}`);
  }
}

/**
 * Reads a log in the crypto-agile format. Any number of bytes 0x00, or 0xff, after the last event, as dumps of a log area
 * have them, is passed over. Throws
 * {@link EventLogError} for anything else that is not a whole log; views of `bytes` are in the result.
 */
export function parseEventLog(bytes: Buffer): TcgEventLog {
  if (bytes.length > MAX_EVENT_LOG) throw new EventLogError(`the log has more than ${MAX_EVENT_LOG.toString()} bytes`);
  const reader = new LogReader(bytes);
  const sizes = readSpecId(reader);
  const events: TcgEvent[] = [];
  let startupLocality = 0;
  while (!reader.isPadding()) {
    if (events.length >= MAX_EVENTS) throw reader.error('the log has too many events');
    const event = readEvent(reader, sizes);
    if (event.type === EVENT_TYPE.EV_NO_ACTION) startupLocality = localityOf(event.data) ?? startupLocality;
    events.push(event);
  }
  return { banks: [...sizes.keys()].filter((bank) => digestSize(bank) > 0), events, startupLocality };
}

/** The first event, in the format of TPM 1.2, gives algorithms and sizes of digests (10.4.5.1). */
function readSpecId(reader: LogReader): Map<number, number> {
  const pcr = reader.uint32();
  const type = reader.uint32();
  const digest = reader.take(SHA1_SIZE);
  const size = reader.uint32();
  if (pcr !== 0 || type !== EVENT_TYPE.EV_NO_ACTION || digest.some((byte) => byte !== 0)) {
    throw new EventLogError('it does not begin with a specification event: it is no crypto-agile log');
  }
  const begin = reader.offset;
  const event = new LogReader(reader.take(size), begin);
  if (event.take(SPEC_ID_SIGNATURE.length).toString('latin1') !== SPEC_ID_SIGNATURE) {
    throw new EventLogError("its first event is not 'Spec ID Event03': it is no crypto-agile log");
  }
  // Platform class, version, errata and size of integers do not matter here.
  event.take(8);
  const count = event.uint32();
  if (count === 0 || count > MAX_ALGORITHMS) throw event.error(`${count.toString()} algorithms`);
  const sizes = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const alg = event.uint16();
    const bytes = event.uint16();
    const known = digestSize(alg);
    if (bytes === 0 || bytes > 64 || (known > 0 && bytes !== known)) throw event.error(`digests of ${bytes.toString()} bytes`);
    sizes.set(alg, bytes);
  }
  event.take(event.uint8());
  if (!event.done) throw event.error('the specification event has a wrong size');
  return sizes;
}

function readEvent(reader: LogReader, sizes: ReadonlyMap<number, number>): TcgEvent {
  const pcr = reader.uint32();
  const type = reader.uint32();
  // Events that extend nothing may name no PCR.
  if (pcr > MAX_PCR && !(type === EVENT_TYPE.EV_NO_ACTION && pcr === 0xffffffff)) throw reader.error(`PCR ${pcr.toString()}`);
  const count = reader.uint32();
  if (count > sizes.size) throw reader.error(`${count.toString()} digests, where the log has ${sizes.size.toString()} algorithms`);
  const digests: { bank: number; digest: Buffer }[] = [];
  const seen = new Set<number>();
  for (let i = 0; i < count; i++) {
    const bank = reader.uint16();
    const size = sizes.get(bank);
    if (size === undefined || seen.has(bank)) throw reader.error(`a digest of algorithm 0x${bank.toString(16)}`);
    seen.add(bank);
    const digest = reader.take(size);
    if (digestSize(bank) > 0) digests.push({ bank, digest });
  }
  const size = reader.uint32();
  if (size > MAX_EVENT_DATA) throw reader.error(`event data of ${size.toString()} bytes`);
  return { pcr, type, digests, data: reader.take(size) };
}

function localityOf(data: Buffer): number | undefined {
  const isLocality = data.length === LOCALITY_SIGNATURE.length + 1 && data.subarray(0, -1).toString('latin1') === LOCALITY_SIGNATURE;
  return isLocality ? data[LOCALITY_SIGNATURE.length] : undefined;
}

/** Event data that tells the locality of TPM2_Startup (10.4.5.3). */
export function startupLocalityEvent(locality: number): Buffer {
  return Buffer.concat([Buffer.from(LOCALITY_SIGNATURE, 'latin1'), Buffer.of(locality)]);
}

/** Writes a log in the crypto-agile format, as `tpm2_eventlog` reads it. */
export function encodeEventLog(banks: readonly number[], events: readonly TcgEvent[]): Buffer {
  const algorithms = banks.map((bank) => Buffer.concat([le16(bank), le16(digestSize(bank))]));
  // Platform class 0 (client), version 2.0, errata 0, 64-bit integers.
  const fixedPart = Buffer.from([0, 0, 0, 0, 0, 2, 0, 2]);
  const spec = Buffer.concat([Buffer.from(SPEC_ID_SIGNATURE, 'latin1'), fixedPart, le32(banks.length), ...algorithms, Buffer.of(0)]);
  const first = [le32(0), le32(EVENT_TYPE.EV_NO_ACTION), Buffer.alloc(SHA1_SIZE), le32(spec.length), spec];
  return Buffer.concat([...first, ...events.flatMap(encodeEvent)]);
}

function encodeEvent({ pcr, type, digests, data }: TcgEvent): Buffer[] {
  const values = digests.flatMap(({ bank, digest }) => [le16(bank), digest]);
  return [le32(pcr), le32(type), le32(digests.length), ...values, le32(data.length), data];
}

function le16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function le32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
