// How the PCRs of a vTPM, their providers and their log are kept: what of them lies in which section.
import type { PcrMatrix } from '../../../properties/matrix/matrix.js';
import { savedChoice, type SavedMatrix, type SavedVector } from '../../../properties/matrix/saved-matrix.js';
import { joinLog, logHead, type LogPiece, type MeasurementLog } from '../../../properties/measurement-log/measurement-log.js';
import type { ProviderSet } from '../../../properties/provider-set/provider-set.js';
import { digestSize } from '../../../tpm/hash.js';
import { type Infer, list, struct, tpm2b, uint16, uint32, uint8 } from '../../../tpm/schema.js';
import { TPML_PCR_SELECTION } from '../../../tpm/structures/index.js';
import {
  type GrowingMember,
  type Mark,
  type Member,
  plainBytes,
  section,
  sectionFamily,
  type SectionReader,
  type SectionWriter,
} from '../../persistence/section.js';
import type { PcrAllocation } from './pcr-allocation.js';

const MAX_NAMES = 1024;
const head = section(
  'pcrs',
  struct({
    allocation: TPML_PCR_SELECTION,
    updateCounter: uint32,
    groupAuth: tpm2b(64),
    reallocated: uint8,
    providers: list(tpm2b(64), MAX_NAMES),
    banks: list(uint16, MAX_NAMES),
  }),
);
/** Of each PCR the values of all providers and banks, side by side. */
const cells = sectionFamily('pcr/', plainBytes);
const choice = section('provider-choice', savedChoice);
const states = sectionFamily('provider/', plainBytes);
const logBegin = section('log-head', logHead);
/** Of each piece of the log: size of the base (4), base, and the entries. */
const logPieces = sectionFamily('log/', plainBytes);
const BASE_AT = 4;

/** What there is of PCRs. */
interface PcrState {
  readonly allocation: PcrAllocation;
  readonly allocated: TPML_PCR_SELECTION;
  readonly updateCounter: number;
  readonly groupAuth: Buffer;
  readonly reallocated: boolean;
  readonly matrix: PcrMatrix;
  readonly providerSet: ProviderSet;
  readonly log: MeasurementLog | undefined;
}

/** What {@link readPcrs} gives. */
export type SavedPcrState = Pick<Infer<typeof head.schema>, 'allocation' | 'updateCounter' | 'groupAuth' | 'reallocated'> & {
  readonly values: SavedMatrix;
};

/** Tells all that is lost with power of the PCRs. */
export function writePcrs(writer: SectionWriter, pcrs: PcrState): void {
  const { matrix, providerSet, log } = pcrs;
  const mark: Mark = [matrix, matrix.revision()];
  const { allocation, updateCounter, groupAuth, reallocated } = pcrs;
  writer.one(
    head,
    () => ({
      allocation: pcrs.allocated,
      updateCounter,
      groupAuth,
      reallocated: Number(reallocated),
      providers: matrix.providerNames.map((name) => Buffer.from(name)),
      banks: [...matrix.banks],
    }),
    [matrix, allocation, updateCounter, groupAuth, reallocated],
  );
  writer.each(cells, () => cellsOf(pcrs), mark);
  writer.one(choice, () => providerSet.choice, [providerSet]);
  writer.each(states, () => statesOf(pcrs), mark);
  if (log === undefined) {
    writer.none(logBegin);
    writer.growing(logPieces, () => [], undefined, 0);
    return;
  }
  writer.one(logBegin, () => log.head(), [log, log.revision]);
  writer.growing(logPieces, () => log.pieces().map((one) => new Piece(one)), log, log.revision);
}

/** The values of one PCR. */
class Cell implements Member<Buffer> {
  readonly rest: string;
  readonly mark: Mark;

  constructor(
    private readonly matrix: PcrMatrix,
    private readonly index: number,
  ) {
    this.rest = index.toString();
    this.mark = [matrix, matrix.revision(index)];
  }

  take(): Buffer {
    return this.matrix.valuesOf(this.index);
  }
}

function cellsOf({ matrix }: PcrState): Cell[] {
  const cells: Cell[] = [];
  for (let index = 0; index < matrix.size; index++) cells.push(new Cell(matrix, index));
  return cells;
}

function statesOf({ providerSet }: PcrState): Member<Buffer>[] {
  return providerSet.saveStates().map(({ provider, state }) => ({ rest: provider.toString('latin1'), take: () => state }));
}

/** A piece of the log. */
class Piece implements GrowingMember {
  readonly rest: string;
  readonly length: number;

  constructor(private readonly piece: LogPiece) {
    this.rest = `${piece.index.toString()}/${piece.id.toString()}`;
    this.length = BASE_AT + piece.base.length + piece.entries.length;
  }

  from(at: number): Buffer {
    const { base, entries } = this.piece;
    const entriesAt = BASE_AT + base.length;
    return at >= entriesAt ? entries.subarray(at - entriesAt) : pieceBytes(base, entries).subarray(at);
  }
}

function pieceBytes(base: Buffer, entries: Buffer): Buffer {
  const size = Buffer.alloc(BASE_AT);
  size.writeUInt32BE(base.length);
  return Buffer.concat([size, base, entries]);
}

function piece(rest: string, bytes: Buffer): LogPiece {
  const [index = 0, id = 0] = rest.split('/').map(Number);
  const entriesAt = BASE_AT + bytes.readUInt32BE(0);
  return { index, id, base: bytes.subarray(BASE_AT, entriesAt), entries: bytes.subarray(entriesAt) };
}

/** What {@link writePcrs} told. Throws a `TpmError` or a RangeError if it is not that. */
export function readPcrs(reader: SectionReader): SavedPcrState {
  const { providers: names, banks, ...rest } = reader.one(head);
  const values = reader.each(cells).sort(([a], [b]) => Number(a) - Number(b));
  const providers = reader.each(states).map(([name, state]) => ({ provider: Buffer.from(name, 'latin1'), state }));
  const vectors = vectorsOf(
    names,
    banks,
    values.map(([, bytes]) => bytes),
  );
  return { ...rest, values: { vectors, choice: reader.one(choice), providers, log: readLog(reader) } };
}

function vectorsOf(providers: readonly Buffer[], banks: readonly number[], values: readonly Buffer[]): SavedVector[] {
  let at = 0;
  return providers.flatMap((provider) =>
    banks.map((bank) => {
      const width = digestSize(bank);
      const vector = { provider, bank, values: Buffer.concat(values.map((bytes) => bytes.subarray(at, at + width))) };
      at += width;
      return vector;
    }),
  );
}

/** What {@link MeasurementLog.restore} takes; empty if there is no log. */
function readLog(reader: SectionReader): Buffer {
  const begin = reader.maybe(logBegin);
  return begin === undefined
    ? Buffer.alloc(0)
    : joinLog(
        begin,
        reader.each(logPieces).map(([rest, bytes]) => piece(rest, bytes)),
      );
}
