// The measurement log for others: as JSON, and in the TCG crypto-agile format that tpm2_eventlog reads.
import { digestSize, hash, hashName } from '../../tpm/hash.js';
import { encodeEventLog, EVENT_TYPE, startupLocalityEvent, type TcgEvent } from '../../statements/event-log.js';
import type { LogEntry, MeasurementLog, PcrHistory } from './measurement-log.js';
import { FIXED_VALUES, fixedValue } from '../../statements/fixed-value.js';

/** Values in hexadecimal by provider, then by bank, e.g. `sha256`. */
type ExportedValues = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** One entry of the log as JSON. */
export interface ExportedEntry {
  readonly number: number;
  readonly kind: LogEntry['kind'];
  readonly pcr: number;
  readonly locality: number;
  /** Event data in hexadecimal, if the guest gave it. */
  readonly eventData?: string;
  /** By bank: what the guest extended; nothing in an entry of kind `start`. */
  readonly measured?: Readonly<Record<string, string>>;
  /** What went into the vectors. */
  readonly translated: ExportedValues;
  /** Providers for which it is a fixed value: `unknown`, `refused` or `failed`. */
  readonly untranslated?: Readonly<Record<string, string>>;
}

/** The log as JSON. Folding the entries of a PCR into its base values gives its values, for every provider and bank. */
export interface ExportedLog {
  readonly version: 1;
  /** Whether all entries since the reset are there. If not, those that are missing are summarized by base values. */
  readonly complete: boolean;
  readonly pcrs: readonly { readonly pcr: number; readonly complete: boolean; readonly base: ExportedValues }[];
  /** In the order in which they happened. */
  readonly entries: readonly ExportedEntry[];
}

/** A log as JSON data. Of one extend that names a bank twice the entry is split in two of the same number. */
export function exportLog(log: MeasurementLog): ExportedLog {
  const histories = log.histories();
  return {
    version: 1,
    complete: histories.every(({ complete }) => complete),
    pcrs: histories.map(({ index, complete, base }) => ({ pcr: index, complete, base: hexValues(base) })),
    entries: inOrder(histories).flatMap(withoutRepeatedBanks).map(exportEntry),
  };
}

/** What a PCR of one provider and bank is after the entries of an exported log; undefined if the log does not have it. */
export function foldLog({ pcrs, entries }: ExportedLog, provider: string, bank: number, pcr: number): Buffer | undefined {
  const name = hashName(bank);
  const base = pcrs.find((one) => one.pcr === pcr)?.base[provider]?.[name];
  if (base === undefined) return undefined;
  return entries.reduce<Buffer>(
    (value, entry) => {
      const digest = entry.pcr === pcr ? entry.translated[provider]?.[name] : undefined;
      return digest === undefined ? value : hash(bank, value, Buffer.from(digest, 'hex'));
    },
    Buffer.from(base, 'hex'),
  );
}

/**
 * The log of one provider in the TCG format: what it extended, with event data where the guest gave it. Undefined if the log
 * lacks entries, as such a file could not tell. A PCR that starts from ones (17 to 22) starts from zero for readers of this format.
 */
export function tcgLog(log: MeasurementLog, provider: string): Buffer | undefined {
  const histories = log.histories();
  if (!histories.every(({ complete }) => complete)) return undefined;
  const banks = [...(histories[0]?.base.get(provider)?.keys() ?? [])];
  if (banks.length === 0) return undefined;
  const locality = [...(histories[0]?.base.get(provider)?.values() ?? [])][0]?.at(-1) ?? 0;
  const entries = inOrder(histories).flatMap(withoutRepeatedBanks);
  return encodeEventLog(banks, [
    ...(locality === 0 ? [] : [noAction(banks, startupLocalityEvent(locality))]),
    ...entries.flatMap((entry) => tcgEvent(entry, provider)),
  ]);
}

/** An event that extends nothing has digests of zeros. */
function noAction(banks: readonly number[], data: Buffer): TcgEvent {
  return { pcr: 0, type: EVENT_TYPE.EV_NO_ACTION, digests: banks.map((bank) => ({ bank, digest: Buffer.alloc(digestSize(bank)) })), data };
}

function tcgEvent({ index, kind, digests, eventData }: LogEntry, provider: string): TcgEvent[] {
  const values = digests.flatMap(({ bank, translated }) => {
    const digest = translated.get(provider);
    return digest === undefined ? [] : [{ bank, digest }];
  });
  if (values.length === 0) return [];
  const data = eventData ?? Buffer.from(kind === 'start' ? `${provider}: initial value` : '');
  return [{ pcr: index, type: kind === 'start' ? EVENT_TYPE.EV_NONHOST_INFO : EVENT_TYPE.EV_COMPACT_HASH, digests: values, data }];
}

function inOrder(histories: readonly PcrHistory[]): LogEntry[] {
  return histories.flatMap(({ entries }) => entries).sort((a, b) => a.number - b.number);
}

function withoutRepeatedBanks(entry: LogEntry): LogEntry[] {
  const rounds: LogEntry['digests'][number][][] = [];
  for (const digest of entry.digests) {
    const round = rounds.find((one) => one.every(({ bank }) => bank !== digest.bank));
    if (round === undefined) rounds.push([digest]);
    else round.push(digest);
  }
  return rounds.map((digests) => ({ ...entry, digests }));
}

function exportEntry({ number, kind, index, locality, eventData, digests }: LogEntry): ExportedEntry {
  const translated: Record<string, Record<string, string>> = {};
  const untranslated: Record<string, string> = {};
  const measured: Record<string, string> = {};
  for (const { bank, measured: given, translated: values } of digests) {
    if (given !== undefined) measured[hashName(bank)] = given.toString('hex');
    for (const [provider, digest] of values) {
      (translated[provider] ??= {})[hashName(bank)] = digest.toString('hex');
      const word = FIXED_VALUES.find((one) => digest.equals(fixedValue(bank, one)));
      if (word !== undefined) untranslated[provider] = word;
    }
  }
  return {
    number,
    kind,
    pcr: index,
    locality,
    ...(eventData === undefined ? {} : { eventData: eventData.toString('hex') }),
    ...(kind === 'start' ? {} : { measured }),
    translated,
    ...(Object.keys(untranslated).length === 0 ? {} : { untranslated }),
  };
}

function hexValues(values: PcrHistory['base']): ExportedValues {
  return Object.fromEntries(
    [...values].map(([provider, banks]) => [
      provider,
      Object.fromEntries([...banks].map(([bank, value]) => [hashName(bank), value.toString('hex')])),
    ]),
  );
}
