// The whole state of a vTPM as data: what is durable, and what is lost with power. Encryption is the writer's business.
import type { GuestRecords, RecordChanges } from '../../store/guest-records.js';
import { decode, encode, type Infer, struct, uint8 } from '../../tpm/schema.js';
import { StateRefused } from '../guest-tpm.js';
import { clockSnapshot } from '../state/clock.js';
import { commandAuditSnapshot } from '../state/command-audit.js';
import { savedCommits } from '../state/commits.js';
import { dictionaryAttackSnapshot } from '../state/dictionary-attack.js';
import { drtmSnapshot } from '../state/drtm.js';
import { hierarchySnapshot } from '../state/hierarchies.js';
import { nvSnapshot } from '../state/nv.js';
import { objectSnapshot } from '../state/objects.js';
import { pcrSnapshot } from '../state/pcrs.js';
import { powerSnapshot } from '../state/power.js';
import { sessionSnapshot } from '../state/sessions.js';
import type { Tpm } from '../tpm.js';

/** Version of both formats; what has another one is refused. */
const VERSION = 1;

const volatileState = struct({
  version: uint8,
  power: powerSnapshot,
  clock: clockSnapshot,
  dictionaryAttack: dictionaryAttackSnapshot,
  hierarchies: hierarchySnapshot,
  pcrs: pcrSnapshot,
  commandAudit: commandAuditSnapshot,
  commits: savedCommits,
  drtm: drtmSnapshot,
  sessions: sessionSnapshot,
  objects: objectSnapshot,
  nv: nvSnapshot,
});
/** Volatile state that was decoded. It holds views of the bytes that it was decoded from. */
export type VolatileState = Infer<typeof volatileState>;

/** All that is lost with power. Takes neither time in the chip nor a write. The bytes are secret. */
export function takeVolatile(tpm: Tpm): Buffer {
  return encode(volatileState, {
    version: VERSION,
    power: tpm.power.snapshot(),
    clock: tpm.clock.snapshot(),
    dictionaryAttack: tpm.dictionaryAttack.snapshot(),
    hierarchies: tpm.hierarchies.snapshot(),
    pcrs: tpm.pcrs.snapshot(),
    commandAudit: tpm.commandAudit.snapshot(),
    commits: tpm.commits.save(),
    drtm: tpm.drtm.snapshot(),
    sessions: tpm.sessions.snapshot(),
    objects: tpm.objects.snapshot(),
    nv: tpm.nv.snapshot(),
  });
}

/** What {@link takeVolatile} gave. Throws {@link StateRefused} if it is not that. */
export function readVolatile(bytes: Buffer): VolatileState {
  checkVersion(bytes, 'volatile');
  try {
    return decode(volatileState, bytes);
  } catch (error) {
    throw new StateRefused('the volatile state in it is damaged', { cause: error });
  }
}

/**
 * Puts volatile state into a TPM that has loaded its durable state and has power. If it may be older than what the guest had last, commits of
 * ephemeral keys that were open are not any more.
 */
export async function restoreVolatile(tpm: Tpm, state: VolatileState, mayBeOlder: boolean): Promise<void> {
  tpm.clock.restore(state.clock);
  tpm.power.restore(state.power);
  tpm.dictionaryAttack.restore(state.dictionaryAttack);
  tpm.hierarchies.restoreSnapshot(state.hierarchies);
  tpm.pcrs.restore(state.pcrs);
  tpm.commandAudit.restore(state.commandAudit);
  if (mayBeOlder) tpm.commits.restoreSpent(state.commits);
  else tpm.commits.restore(state.commits);
  await tpm.drtm.restore(state.drtm);
  tpm.sessions.restoreSnapshot(state.sessions);
  await tpm.objects.restore(state.objects, tpm.keys);
  tpm.nv.restore(state.nv);
}

/** Records by their keys. */
export type RecordSet = ReadonlyMap<string, Buffer>;

/** All records as bytes: version (1), then of each record size of key (2), key, size of value (4), value. The bytes are secret. */
export function encodeRecords(records: RecordSet): Buffer {
  const parts: Buffer[] = [Buffer.of(VERSION)];
  for (const [key, value] of records) {
    const name = Buffer.from(key, 'latin1');
    const sizes = Buffer.alloc(6);
    sizes.writeUInt16BE(name.length);
    sizes.writeUInt32BE(value.length, 2);
    parts.push(sizes.subarray(0, 2), name, sizes.subarray(2), value);
  }
  return Buffer.concat(parts);
}

/** What {@link encodeRecords} was given; values are views. Throws {@link StateRefused}. */
export function decodeRecords(bytes: Buffer): RecordSet {
  checkVersion(bytes, 'permanent');
  const records = new Map<string, Buffer>();
  let at = 1;
  const take = (size: number): Buffer => {
    if (size > bytes.length - at) throw new StateRefused('the permanent state in it is damaged');
    at += size;
    return bytes.subarray(at - size, at);
  };
  while (at < bytes.length) {
    const key = take(take(2).readUInt16BE()).toString('latin1');
    records.set(key, take(take(4).readUInt32BE()));
  }
  return records;
}

/** The changes that make `wanted` of the records with the keys `present`. */
export function replaceRecords(present: Iterable<string>, wanted: RecordSet): Map<string, Buffer | null> {
  const changes = new Map<string, Buffer | null>();
  for (const key of present) changes.set(key, null);
  for (const [key, value] of wanted) changes.set(key, Buffer.from(value));
  return changes;
}

/** Records to be tried out: changes go nowhere. */
export class TrialRecords implements GuestRecords {
  constructor(private readonly records: RecordSet) {}

  load(prefix: string): Promise<[key: string, value: Buffer][]> {
    return Promise.resolve([...this.records].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  commit(_changes: RecordChanges): Promise<void> {
    return Promise.resolve();
  }
}

function checkVersion(bytes: Buffer, what: string): void {
  const version = bytes[0] ?? 0;
  if (version !== VERSION) {
    throw new StateRefused(`its ${what} state has format version ${version.toString()}; this tpmux reads version ${VERSION.toString()}`);
  }
}
