// The volatile state of a vTPM cut into sections, each of which is written only when it changes, and put together again.
import { joinLog, type LogPiece } from '../../properties/measurement-log/measurement-log.js';
import { savedChoice, type SavedProvider, type SavedVector } from '../../properties/matrix/saved-matrix.js';
import type { Sections } from '../../store/journal-record.js';
import { digestSize } from '../../tpm/hash.js';
import { decode, encode, list, type Schema, struct, tpm2b, uint16, uint32, uint64, uint8 } from '../../tpm/schema.js';
import { TPML_PCR_SELECTION } from '../../tpm/structures/index.js';
import type { LoadedObject } from '../state/objects.js';
import { clockAnchors } from '../state/clock.js';
import { commandAuditSnapshot } from '../state/command-audit.js';
import { savedCommits } from '../state/commits.js';
import { dictionaryAttackTimers } from '../state/dictionary-attack.js';
import { drtmSnapshot } from '../state/drtm.js';
import { hierarchySnapshot } from '../state/hierarchies.js';
import { storedNvIndex } from '../state/nv.js';
import { powerSnapshot } from '../state/power.js';
import { storedObject, toStored } from '../state/stored/stored-object.js';
import { storedSequence, toStoredSequence } from '../state/stored/stored-sequence.js';
import { storedSession } from '../state/stored/stored-session.js';
import type { Tpm } from '../tpm.js';

/** What names of sections begin with where there are several of a kind. A decimal handle or index, or a name, follows. */
export const PREFIX = {
  pcr: 'pcr/',
  provider: 'provider/',
  log: 'log/',
  session: 'session/',
  object: 'object/',
  sequence: 'sequence/',
  nv: 'nv/',
} as const;
/** The section that says whose vectors count where. */
export const PROVIDER_CHOICE = 'provider-choice';
/** The section of the log's head. */
export const LOG_HEAD = 'log-head';

/** A section that is small enough to be encoded after every command. */
export interface SmallSection {
  readonly key: string;
  readonly take: (tpm: Tpm) => Buffer;
  /** Throws a `TpmError` if the bytes are no such section. */
  readonly put: (tpm: Tpm, bytes: Buffer) => void | Promise<void>;
}

function section<T>(
  key: string,
  schema: Schema<T>,
  take: (tpm: Tpm) => T,
  put: (tpm: Tpm, value: T) => void | Promise<void>,
): SmallSection {
  return { key, take: (tpm) => encode(schema, take(tpm)), put: (tpm, bytes) => put(tpm, decode(schema, bytes)) };
}

const powerSection = struct({ snapshot: powerSnapshot, failed: uint8 });

/** In the order in which they are put back. */
export const smallSections: readonly SmallSection[] = [
  section(
    'clock',
    clockAnchors,
    ({ clock }) => clock.anchors(),
    ({ clock }, anchors) => {
      clock.restoreAnchors(anchors);
    },
  ),
  section(
    'power',
    powerSection,
    ({ power }) => ({ snapshot: power.snapshot(), failed: Number(power.failed) }),
    ({ power }, { snapshot, failed }) => {
      power.restore(snapshot);
      power.failed = failed !== 0;
    },
  ),
  section(
    'dictionary-attack',
    dictionaryAttackTimers,
    ({ dictionaryAttack }) => dictionaryAttack.timers(),
    ({ dictionaryAttack }, timers) => {
      dictionaryAttack.restoreTimers(timers);
    },
  ),
  section(
    'hierarchies',
    hierarchySnapshot,
    ({ hierarchies }) => hierarchies.snapshot(),
    ({ hierarchies }, snapshot) => {
      hierarchies.restoreSnapshot(snapshot);
    },
  ),
  section(
    'command-audit',
    commandAuditSnapshot,
    ({ commandAudit }) => commandAudit.snapshot(),
    ({ commandAudit }, snapshot) => {
      commandAudit.restore(snapshot);
    },
  ),
  // As it was: this is the newest state, and a command whose record is missing has not been answered, so no signature of it is known.
  section(
    'commits',
    savedCommits,
    ({ commits }) => commits.save(),
    ({ commits }, saved) => {
      commits.restore(saved);
    },
  ),
  section(
    'drtm',
    drtmSnapshot,
    ({ drtm }) => drtm.snapshot(),
    ({ drtm }, snapshot) => drtm.restore(snapshot),
  ),
];

const MAX_NAMES = 1024;
const pcrHead = struct({
  allocation: TPML_PCR_SELECTION,
  updateCounter: uint32,
  groupAuth: tpm2b(64),
  reallocated: uint8,
  providers: list(tpm2b(64), MAX_NAMES),
  banks: list(uint16, MAX_NAMES),
});
const sessionHead = struct({
  saved: list(struct({ handle: uint32, contextId: uint64 }), 65536),
  contextCounter: uint64,
  exclusiveAudit: uint32,
});
const objectHead = struct({ contexts: uint64 });

/** What there is of PCRs besides their values, of sessions and of objects besides those that are loaded. */
export const headSections: readonly Pick<SmallSection, 'key' | 'take'>[] = [
  {
    key: 'pcrs',
    take: ({ pcrs }) =>
      encode(pcrHead, {
        allocation: pcrs.allocated,
        updateCounter: pcrs.updateCounter,
        groupAuth: pcrs.groupAuth,
        reallocated: Number(pcrs.reallocated),
        providers: pcrs.matrix.providerNames.map((name) => Buffer.from(name)),
        banks: [...pcrs.matrix.banks],
      }),
  },
  {
    key: 'sessions',
    take: ({ sessions }) =>
      encode(sessionHead, {
        saved: sessions.saveTable(),
        contextCounter: sessions.contextCounter,
        exclusiveAudit: sessions.exclusiveAudit ?? 0,
      }),
  },
  { key: 'objects', take: ({ objects }) => encode(objectHead, { contexts: objects.contexts }) },
];

/** A loaded object or sequence, for `object/` or `sequence/`. */
export function encodeLoaded(object: LoadedObject): Buffer {
  return object.kind === 'object' ? encode(storedObject, toStored(object)) : encode(storedSequence, toStoredSequence(object.save()));
}

/** A piece of the log: size of the base (4), base, and the entries, which may grow. */
export function encodePiece({ base, entries }: LogPiece): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(base.length);
  return Buffer.concat([size, base, entries]);
}

function decodePiece(rest: string, bytes: Buffer): LogPiece {
  const [index = 0, id = 0] = rest.split('/').map(Number);
  const baseEnd = 4 + bytes.readUInt32BE(0);
  return { index, id, base: bytes.subarray(4, baseEnd), entries: bytes.subarray(baseEnd) };
}

/**
 * Puts the sections into a TPM that has loaded its durable state and has power. No chip command: keys are loaded when they are used.
 * Rejects with a `TpmError` or a RangeError if something is missing or no such section.
 */
export async function restoreSections(tpm: Tpm, sections: Sections): Promise<void> {
  for (const { key, put } of smallSections) await put(tpm, needed(sections, key));
  restorePcrs(tpm, sections);
  const loaded = [...below(sections, PREFIX.session)].map(([, bytes]) => decode(storedSession, bytes));
  tpm.sessions.restoreSnapshot({ ...decode(sessionHead, needed(sections, 'sessions')), loaded });
  const objects = below(sections, PREFIX.object).map(([handle, bytes]) => ({
    handle: Number(handle),
    object: decode(storedObject, bytes),
    sequence: null,
  }));
  const sequences = below(sections, PREFIX.sequence).map(([handle, bytes]) => ({
    handle: Number(handle),
    object: null,
    sequence: decode(storedSequence, bytes),
  }));
  const { contexts } = decode(objectHead, needed(sections, 'objects'));
  await tpm.objects.restore({ contexts, loaded: [...objects, ...sequences] }, tpm.keys);
  tpm.nv.restore(below(sections, PREFIX.nv).map(([, bytes]) => decode(storedNvIndex, bytes)));
}

function restorePcrs({ pcrs }: Tpm, sections: Sections): void {
  const { providers: names, banks, ...head } = decode(pcrHead, needed(sections, 'pcrs'));
  const cells = below(sections, PREFIX.pcr).sort(([a], [b]) => Number(a) - Number(b));
  let at = 0;
  const vectors: SavedVector[] = names.flatMap((provider) =>
    banks.map((bank) => {
      const width = digestSize(bank);
      const values = Buffer.concat(cells.map(([, values]) => values.subarray(at, at + width)));
      at += width;
      return { provider, bank, values };
    }),
  );
  const providers: SavedProvider[] = below(sections, PREFIX.provider).map(([name, state]) => ({
    provider: Buffer.from(name, 'latin1'),
    state,
  }));
  const choice = decode(savedChoice, needed(sections, PROVIDER_CHOICE));
  const logHead = sections.get(LOG_HEAD);
  const pieces = below(sections, PREFIX.log).map(([rest, bytes]) => decodePiece(rest, bytes));
  const log = logHead === undefined ? Buffer.alloc(0) : joinLog(logHead, pieces);
  pcrs.restore({ ...head, values: { vectors, choice, providers, log } });
}

function needed(sections: Sections, key: string): Buffer {
  const bytes = sections.get(key);
  if (bytes === undefined) throw new RangeError(`section ${key} is missing`);
  return bytes;
}

/** Sections of one kind, by the rest of their names. */
function below(sections: Sections, prefix: string): [rest: string, bytes: Buffer][] {
  return [...sections].flatMap(([key, bytes]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), bytes]] : []));
}
