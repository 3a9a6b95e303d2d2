// What the store remembers of the counter that tells an older copy of it.
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import * as v from 'valibot';

const MAC_SIZE = 32;

/**
 * The store's word on the chip's counter. It is written before the counter is incremented to {@link counter}, so the chip has that value, or
 * the one before if there was no time for the increment.
 */
export interface Lease {
  /** NV index of the counter; 0 before it is defined. */
  readonly index: number;
  /** Value of the counter that makes this the newest lease; undefined while the counter is being made. */
  readonly counter: bigint | undefined;
  /** How often the counter was incremented on which day, so that restarts do not wear the chip. */
  readonly day: number;
  readonly increments: number;
  /** By guest: the number of a commit that it has reached. */
  readonly guests: ReadonlyMap<string, bigint>;
}

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const decimal = v.pipe(
  v.string(),
  v.regex(/^\d{1,20}$/),
  v.transform((text) => BigInt(text)),
);
const schema = v.strictObject({
  version: v.literal(1),
  index: count,
  counter: v.nullable(decimal),
  day: count,
  increments: count,
  guests: v.record(v.string(), decimal),
});

/** Writes leases that only who knows the host's secret can write. The form is `HMAC-SHA256 (32 bytes) || JSON`. */
export class LeaseSeal {
  private readonly key: Buffer;

  /** @param hostSecret no view of it is kept */
  constructor(hostSecret: Buffer) {
    this.key = Buffer.from(hkdfSync('sha256', hostSecret, Buffer.alloc(0), 'tpmux rollback lease', MAC_SIZE));
  }

  encode({ index, counter, day, increments, guests }: Lease): Buffer {
    const sequences = Object.fromEntries([...guests].map(([id, sequence]) => [id, sequence.toString()]));
    const fields = { version: 1, index, counter: counter?.toString() ?? null, day, increments, guests: sequences };
    const json = Buffer.from(JSON.stringify(fields), 'utf8');
    return Buffer.concat([this.mac(json), json]);
  }

  /** The lease, or undefined if the bytes are not authentic. */
  decode(bytes: Buffer): Lease | undefined {
    if (bytes.length < MAC_SIZE) return undefined;
    const json = bytes.subarray(MAC_SIZE);
    if (!timingSafeEqual(this.mac(json), bytes.subarray(0, MAC_SIZE))) return undefined;
    const result = v.safeParse(schema, JSON.parse(json.toString('utf8')));
    if (!result.success) return undefined;
    const { counter, guests, ...rest } = result.output;
    return { ...rest, counter: counter ?? undefined, guests: new Map(Object.entries(guests)) };
  }

  private mac(json: Buffer): Buffer {
    return createHmac('sha256', this.key).update(json).digest();
  }
}
