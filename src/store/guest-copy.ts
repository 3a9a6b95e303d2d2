// Records of a guest outside the database: those of a backup are checked, those that are damaged sorted out, and new ones sealed.
import type { Change } from './database.js';
import { eraCipher, GuestRecordStore, guestKeys, type RecordDatabase } from './guest-record-store.js';
import { claimedSequence, formatOf, RECORD_VERSION, RecordCipher } from './record-cipher.js';

/** The encrypted records of a guest with their head, by the rest of their key, as the store gives them. */
export type SealedRecords = readonly (readonly [rest: string, value: Buffer])[];

/** A record that cannot be saved, and why. */
export interface LostRecord {
  readonly record: string;
  readonly reason: string;
}

/** What is left of damaged records. */
export interface Salvage {
  readonly kept: ReadonlyMap<string, Buffer>;
  readonly lost: readonly LostRecord[];
  /** The head is authentic; otherwise it is not known which records are missing. */
  readonly headIsGood: boolean;
  /** The highest number of a commit that is claimed anywhere. */
  readonly lastSequence: bigint;
  /** Some record is of a newer format: it is not damaged, and not to be given up. */
  readonly newerFormat: boolean;
}

const RECORDS = 'record/';
const HEAD = 'head';
const ERA = 'era';

/** All records in clear. Rejects with a `StoreError` if one is damaged, missing, added, or another guest's. */
export function openRecords(guest: string, stateKey: Buffer, sealed: SealedRecords): Promise<[key: string, value: Buffer][]> {
  const rows = new Map(sealed.map(([rest, value]) => [guestKeys.all(guest) + rest, value]));
  return new GuestRecordStore({ database: inMemory(rows), isUnused: () => sealed.length === 0 }, guest, stateKey).load('');
}

/** Seals records as one commit with a number above `after`. */
export async function sealRecords(
  guest: string,
  stateKey: Buffer,
  records: ReadonlyMap<string, Buffer>,
  after: bigint,
): Promise<SealedRecords> {
  const rows = new Map<string, Buffer>();
  await new GuestRecordStore({ database: inMemory(rows), isUnused: () => true, after }, guest, stateKey).commit(records);
  return [...rows].map(([key, value]) => [key.slice(guestKeys.all(guest).length), value]);
}

/** Sorts authentic records from the others. Which of them is as old as it should be cannot be told. */
export function salvageRecords(guest: string, stateKey: Buffer, sealed: SealedRecords): Salvage {
  const root = new RecordCipher(guest, stateKey);
  const era = sealed.find(([rest]) => rest === ERA)?.[1];
  const cipher = eraCipher(guest, root, era);
  const kept = new Map<string, Buffer>();
  const lost: LostRecord[] = [];
  let lastSequence = 0n;
  let headIsGood = false;
  let newerFormat = false;
  for (const [rest, value] of sealed) {
    const sequence = claimedSequence(value);
    if (sequence === undefined && (formatOf(value) ?? 0) > RECORD_VERSION) newerFormat = true;
    if (rest === ERA) continue;
    const clear = rest === HEAD ? root.open(rest, value) : cipher?.open(rest, value);
    // A number that nobody vouches for may be anything.
    if (clear !== undefined && sequence !== undefined && sequence > lastSequence) lastSequence = sequence;
    if (rest === HEAD) headIsGood = clear !== undefined;
    else if (clear !== undefined) kept.set(rest.slice(RECORDS.length), clear);
    else lost.push({ record: rest.slice(RECORDS.length), reason: sequence === undefined ? 'cut short' : 'not authentic' });
  }
  return { kept, lost, headIsGood, lastSequence, newerFormat };
}

function inMemory(rows: Map<string, Buffer>): RecordDatabase {
  return {
    read: (prefix) => Promise.resolve([...rows].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1))),
    write: (changes: Iterable<Change>) => {
      for (const [key, value] of changes) {
        if (value === null) rows.delete(key);
        else rows.set(key, Buffer.from(value));
      }
      return Promise.resolve();
    },
    erase: () => Promise.resolve(),
  };
}
