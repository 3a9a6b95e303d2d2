// TPM 2.0 Library Part 1, 17.7: which PCRs exist in which bank.
import { PCR_SELECT_MAX } from '../../../tpm/constants/index.js';
import type { TPML_PCR_SELECTION, TPMS_PCR_SELECTION } from '../../../tpm/structures/index.js';

/** The PCRs that exist, as a bit map per bank. A bank without any is not there. */
export class PcrAllocation {
  private readonly bitmaps: ReadonlyMap<number, Buffer>;

  constructor(bitmaps: ReadonlyMap<number, Buffer>) {
    this.bitmaps = new Map([...bitmaps].filter(([, bitmap]) => bitmap.some((byte) => byte !== 0)));
  }

  /** All PCRs of these banks. */
  static whole(banks: readonly number[]): PcrAllocation {
    return new PcrAllocation(new Map(banks.map((bank) => [bank, Buffer.alloc(PCR_SELECT_MAX, 0xff)])));
  }

  static of(selection: TPML_PCR_SELECTION): PcrAllocation {
    return new PcrAllocation(new Map(selection.map(({ hash, pcrSelect }) => [hash, Buffer.from(pcrSelect)])));
  }

  /** Banks with at least one PCR. */
  get banks(): number[] {
    return [...this.bitmaps.keys()];
  }

  /** PCRs of a bank; all zero if it is not there. */
  bitmap(bank: number): Buffer {
    return this.bitmaps.get(bank) ?? Buffer.alloc(PCR_SELECT_MAX);
  }

  has(bank: number, index: number): boolean {
    return ((this.bitmap(bank)[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
  }

  /** With each bank of `selection` as it says there; the others stay. */
  with(selection: TPML_PCR_SELECTION): PcrAllocation {
    return new PcrAllocation(
      new Map([...this.bitmaps, ...selection.map(({ hash, pcrSelect }) => [hash, Buffer.from(pcrSelect)] as const)]),
    );
  }

  /** The selection without the PCRs that do not exist. */
  filter(selection: TPML_PCR_SELECTION): TPML_PCR_SELECTION {
    return selection.map(({ hash, pcrSelect }) => {
      const exists = this.bitmap(hash);
      return { hash, pcrSelect: Buffer.from(pcrSelect.map((byte, i) => byte & (exists[i] ?? 0))) };
    });
  }

  /** As TPM_CAP_PCRS reports it: every one of `banks`, in order. */
  selection(banks: readonly number[]): TPML_PCR_SELECTION {
    return banks.map((bank) => ({ hash: bank as TPMS_PCR_SELECTION['hash'], pcrSelect: this.bitmap(bank) }));
  }
}
