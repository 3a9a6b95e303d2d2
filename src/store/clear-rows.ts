// The rows of the store that are not encrypted: what the host knows of itself and of its guests before it has their keys. One row, the
// head, authenticates all of them under the host's secret. Rows belong to groups: a host record is a group of its own, and so are all rows
// of a guest; so it can be told whose rows are not those that were written last.
//
//   head = HMAC-SHA-256(head key, text) || text; text = {"version": 1, "groups": {GROUP: digest in hexadecimal, …}}
//   digest = HMAC-SHA-256(group key, of each row in order of the keys: size of key (2) || key || size of value (4) || value), cut to 16 bytes
import { createHmac, createSecretKey, hkdfSync, timingSafeEqual, type KeyObject } from 'node:crypto';
import * as v from 'valibot';
import type { Change } from './database.js';

const MAC_SIZE = 32;
const DIGEST_SIZE = 16;

/** Key of the row that stands for all others. */
export const HEAD_KEY = 'head';
const CLEAR_KEY = /^(format|host\/.*|guest\/[^/]+\/(meta|key-blobs|recovery|unused))$/s;
const GUEST_KEY = /^(guest\/[^/]+)\//s;
/** What there is before the host has a secret. */
const FIRST_KEYS: ReadonlySet<string> = new Set(['format', 'host/hardware', 'host/host-secret']);

const headText = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({ version: v.literal(1), groups: v.record(v.string(), v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/))) }),
);

/** Whether the row `key` is one of these. */
export function isClear(key: string): boolean {
  return CLEAR_KEY.test(key);
}

/** The group of a row: `guest/ID` or the key itself. */
function groupOf(key: string): string {
  return GUEST_KEY.exec(key)?.[1] ?? key;
}

/** The group of all rows of a guest. */
export const guestGroup = (id: string): string => `guest/${id}`;

/** A write that was worked out: what goes into the database, and what is to be done when it is there. */
export interface PreparedWrite {
  readonly changes: readonly Change[];
  readonly apply: () => void;
}

/** All rows with their values. Writes must not overlap: the next is prepared when the last was applied, or has failed. */
export class ClearRows {
  /** Why nothing of this is to be believed; undefined if the head is good, or there was none yet. */
  readonly mismatch: string | undefined;
  /** Groups that are not those that were written last: changed, removed, added, or put back from an older time. */
  readonly foreign = new Set<string>();
  /** Nothing was ever written but what is there before the host has a secret. */
  readonly isNew: boolean;
  private readonly values = new Map<string, Buffer>();
  private readonly keysOf = new Map<string, Set<string>>();
  private digests: ReadonlyMap<string, Buffer>;
  private readonly groupKey: KeyObject;
  private readonly headKey: KeyObject;

  /**
   * @param stored rows as they are in the database, the head too
   * @param secret the host's; no view of it is kept
   */
  constructor(stored: ReadonlyMap<string, Buffer>, secret: Buffer) {
    this.groupKey = derive(secret, 'group');
    this.headKey = derive(secret, 'head');
    for (const [key, value] of stored) if (isClear(key)) this.put(key, value);
    const head = stored.get(HEAD_KEY);
    this.isNew = head === undefined && [...this.values.keys()].every((key) => FIRST_KEYS.has(key));
    const digests = head && this.openHead(head);
    if (digests === undefined && !this.isNew) {
      this.mismatch = head === undefined ? 'its head is missing' : 'its head was changed, or belongs to another host';
    }
    this.digests = digests ?? new Map();
    for (const group of digests === undefined ? [] : new Set([...this.keysOf.keys(), ...digests.keys()])) {
      if (!this.isAsWritten(group)) this.foreign.add(group);
    }
  }

  /** The value of a row; undefined if there is none, or its group is {@link foreign}. */
  get(key: string): Buffer | undefined {
    return this.foreign.has(groupOf(key)) ? undefined : this.values.get(key);
  }

  /** Keys of all rows, also those of {@link foreign} groups. */
  keys(): IterableIterator<string> {
    return this.values.keys();
  }

  /**
   * Works out what to write for `changes`, which may be about other rows too; null deletes. A {@link foreign} group stays so unless all its
   * rows are replaced or deleted.
   */
  prepare(changes: readonly Change[]): PreparedWrite {
    const clear = new Map(changes.filter(([key]) => isClear(key)));
    const digests = new Map(this.digests);
    const trusted: string[] = [];
    for (const group of new Set([...clear.keys()].map(groupOf))) {
      const present = [...(this.keysOf.get(group) ?? [])];
      if (this.foreign.has(group) && !present.every((key) => clear.has(key))) continue;
      trusted.push(group);
      const rows = new Map(present.map((key) => [key, this.values.get(key)]));
      for (const [key, value] of clear) {
        if (groupOf(key) !== group) continue;
        if (value === null) rows.delete(key);
        else rows.set(key, Buffer.from(value));
      }
      if (rows.size === 0) digests.delete(group);
      else digests.set(group, this.digest(rows));
    }
    return {
      changes: [...changes, [HEAD_KEY, this.sealHead(digests)]],
      apply: () => {
        this.digests = digests;
        for (const [key, value] of clear) this.put(key, value);
        for (const group of trusted) this.foreign.delete(group);
      },
    };
  }

  /** Works out a write that makes all rows good as they are now. */
  prepareAcceptance(): PreparedWrite {
    this.digests = new Map();
    const { changes, apply } = this.prepare([...this.values]);
    return {
      changes,
      apply: () => {
        apply();
        this.foreign.clear();
      },
    };
  }

  private put(key: string, value: Uint8Array | null): void {
    const group = groupOf(key);
    const keys = this.keysOf.get(group) ?? new Set();
    if (value === null) {
      this.values.delete(key);
      keys.delete(key);
    } else {
      this.values.set(key, Buffer.from(value));
      keys.add(key);
    }
    if (keys.size === 0) this.keysOf.delete(group);
    else this.keysOf.set(group, keys);
  }

  private isAsWritten(group: string): boolean {
    const keys = this.keysOf.get(group);
    const written = this.digests.get(group);
    if (keys === undefined || written === undefined) return false;
    return timingSafeEqual(written, this.digest(new Map([...keys].map((key) => [key, this.values.get(key)]))));
  }

  private digest(rows: ReadonlyMap<string, Buffer | undefined>): Buffer {
    const hmac = createHmac('sha256', this.groupKey);
    for (const key of [...rows.keys()].sort()) {
      const name = Buffer.from(key, 'utf8');
      const value = rows.get(key) ?? Buffer.alloc(0);
      const sizes = Buffer.alloc(6);
      sizes.writeUInt16BE(name.length);
      sizes.writeUInt32BE(value.length, 2);
      hmac.update(sizes.subarray(0, 2)).update(name).update(sizes.subarray(2)).update(value);
    }
    return hmac.digest().subarray(0, DIGEST_SIZE);
  }

  private sealHead(digests: ReadonlyMap<string, Buffer>): Buffer {
    const groups = Object.fromEntries([...digests].map(([group, digest]) => [group, digest.toString('hex')]));
    const text = Buffer.from(JSON.stringify({ version: 1, groups }), 'utf8');
    return Buffer.concat([this.mac(text), text]);
  }

  /** Undefined if it is not authentic. */
  private openHead(head: Buffer): Map<string, Buffer> | undefined {
    const text = head.subarray(MAC_SIZE);
    if (head.length < MAC_SIZE || !timingSafeEqual(this.mac(text), head.subarray(0, MAC_SIZE))) return undefined;
    const result = v.safeParse(headText, text.toString('utf8'));
    if (!result.success) return undefined;
    return new Map(Object.entries(result.output.groups).map(([group, digest]) => [group, Buffer.from(digest, 'hex')]));
  }

  private mac(text: Buffer): Buffer {
    return createHmac('sha256', this.headKey).update(text).digest();
  }
}

function derive(secret: Buffer, purpose: string): KeyObject {
  const bytes = Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), `tpmux store rows ${purpose}`, MAC_SIZE));
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}
