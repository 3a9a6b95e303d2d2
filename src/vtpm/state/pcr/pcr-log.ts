// What happened to a guest's PCRs, for the operator: the guest can neither read nor change it.

/** What happened: `launch` is a D-RTM sequence, or one of the H-CRTM; `restore` puts PCRs back to those of a saved state. */
type PcrLogKind = 'startup' | 'extend' | 'reset' | 'launch' | 'restore';

/** One entry. */
export interface PcrLogEntry {
  /** Counts from 1 since the guest was started; what is missing before the first entry has been dropped. */
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly kind: PcrLogKind;
  /** Command that did it, without the `TPM2_` prefix; an indication such as `_TPM_Hash_End`; or a control request. */
  readonly command: string;
  readonly locality: number;
  /** PCR index, or null if it is about all of them. */
  readonly pcr: number | null;
  /** What was extended, by hash algorithm (`TPM_ALG_ID`). */
  readonly digests: readonly { readonly alg: number; readonly digest: Buffer }[];
}

/** Entries that are kept of one guest. */
const PCR_LOG_SIZE = 2048;

/** The latest entries. It lives as long as the guest runs, over its power cycles. */
export class PcrLog {
  private readonly ring: PcrLogEntry[] = [];
  private count = 0;

  /** Digests are copied. */
  add(entry: Omit<PcrLogEntry, 'number' | 'time'>): void {
    const digests = entry.digests.map(({ alg, digest }) => ({ alg, digest: Buffer.from(digest) }));
    this.ring[this.count % PCR_LOG_SIZE] = { ...entry, digests, number: this.count + 1, time: Date.now() };
    this.count++;
  }

  /** The entries, oldest first. */
  get entries(): PcrLogEntry[] {
    const oldest = this.count % PCR_LOG_SIZE;
    return this.count <= PCR_LOG_SIZE ? [...this.ring] : [...this.ring.slice(oldest), ...this.ring.slice(0, oldest)];
  }
}
