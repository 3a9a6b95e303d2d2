// Whether a log leads to the PCR values that were quoted.
import { hash } from '../tpm/hash.js';
import type { DigestName } from '../statements/statement.js';
import type { Evidence, EvidenceEntry, EvidencePcr } from './evidence.js';
import { quotedBanks, quoteHash, type Quote } from './quote.js';
import { VerificationError } from './verification-error.js';

/** PCRs that only a D-RTM resets begin with ones. */
const FIRST_ONES = 17;
const LAST_ONES = 22;
const MAX_LOCALITY = 4;

/** The part of the log that was quoted. */
export interface Replay {
  /** In their order. */
  readonly entries: readonly EvidenceEntry[];
  /** How many entries about these PCRs came after the quote. */
  readonly later: number;
}

interface Cell {
  readonly bank: number;
  readonly name: DigestName;
  readonly pcr: number;
  value: Buffer;
}

/**
 * Folds the log until it gives the quote's digest; what comes later is no part of the quote. Throws {@link VerificationError}
 * `pcrs_not_covered` if the log lacks a quoted PCR, `log_mismatch` if no part of the log gives the digest.
 */
export function replay({ pcrs, entries }: Evidence, quote: Quote): Replay {
  const cells = quotedBanks(quote).flatMap(({ bank, name, pcrs: quoted }) =>
    quoted.map((pcr) => ({ bank, name, pcr, value: baseOf(pcrs, pcr, name) })),
  );
  const hashAlg = quoteHash(quote);
  const matches = (): boolean => hash(hashAlg, ...cells.map(({ value }) => value)).equals(quote.attested.pcrDigest);
  for (let used = 0; ; used++) {
    if (matches()) return { entries: entries.slice(0, used), later: entries.slice(used).filter((entry) => changes(cells, entry)).length };
    while (used < entries.length && !extend(cells, entries[used])) used++;
    if (used >= entries.length) break;
  }
  throw new VerificationError(
    'log_mismatch',
    'the log does not lead to the PCR values that were quoted: it was edited, or belongs to another boot',
  );
}

/** Whether a PCR's log begins where the TPM begins. */
export function beginsAtReset({ pcr, complete, base }: EvidencePcr): boolean {
  return (
    complete &&
    Object.values(base).every((hex) => {
      const value = Buffer.from(hex ?? '', 'hex');
      const last = value.at(-1) ?? 0;
      if (value.subarray(0, -1).every((byte) => byte === 0) && (last === 0 || (pcr === 0 && last <= MAX_LOCALITY))) return true;
      return pcr >= FIRST_ONES && pcr <= LAST_ONES && value.every((byte) => byte === 0xff);
    })
  );
}

function baseOf(pcrs: readonly EvidencePcr[], pcr: number, name: DigestName): Buffer {
  const hex = pcrs.find((one) => one.pcr === pcr)?.base[name];
  if (hex === undefined)
    throw new VerificationError('pcrs_not_covered', `the evidence says nothing about PCR ${pcr.toString()} in bank ${name}`);
  return Buffer.from(hex, 'hex');
}

/** Whether an entry is about one of these PCRs. */
function changes(cells: readonly Cell[], { pcr, translated }: EvidenceEntry): boolean {
  return cells.some((cell) => cell.pcr === pcr && translated[cell.name] !== undefined);
}

/** Extends the PCRs that an entry is about; whether there are any. */
function extend(cells: readonly Cell[], entry: EvidenceEntry | undefined): boolean {
  let changed = false;
  for (const cell of cells) {
    const digest = entry?.pcr === cell.pcr ? entry.translated[cell.name] : undefined;
    if (digest === undefined) continue;
    cell.value = hash(cell.bank, cell.value, Buffer.from(digest, 'hex'));
    changed = true;
  }
  return changed;
}
