// The built-in provider `platform`: an ordinary TPM whose PCRs start from what the host is.
import type { PlatformSource } from '../../config/names.js';
import { hash } from '../../tpm/hash.js';
import type { Measurement, PropertyProvider } from './provider.js';
import type { PropertySet } from '../../statements/property-set.js';

/** What a guest is told of its host. */
export interface HostEvidence {
  /** The host's own PCRs by bank (`TPM_ALG_ID`), from index 0. */
  readonly pcrs: ReadonlyMap<number, readonly Buffer[]>;
  /** Properties of the host, if some are known. */
  readonly properties?: PropertySet | undefined;
}

/**
 * Whenever PCR i is set to its initial value, the host's value is extended into it: the host's PCR i of the same bank, or the
 * digest of the host's properties; then every digest stands for itself. A bank that the host's TPM lacks starts from the digest, in
 * that bank, of the host's PCR i in all the banks that it has, in ascending order of their algorithms.
 */
export class PlatformProvider implements PropertyProvider {
  private readonly starts = new Map<number, readonly (Buffer | undefined)[]>();

  constructor(
    private readonly host: HostEvidence,
    private readonly source: PlatformSource = 'pcrs',
  ) {}

  extend({ digests }: Measurement): Buffer[] {
    return digests.map(({ digest }) => digest);
  }

  start(index: number, bank: number): Buffer | undefined {
    if (this.source === 'properties') return this.host.properties?.digest(bank);
    let ofBank = this.starts.get(bank);
    if (ofBank === undefined) {
      ofBank = this.startsOf(bank);
      this.starts.set(bank, ofBank);
    }
    return ofBank[index];
  }

  private startsOf(bank: number): readonly Buffer[] {
    const own = this.host.pcrs.get(bank);
    if (own !== undefined) return own;
    const banks = [...this.host.pcrs].sort(([a], [b]) => a - b).map(([, values]) => values);
    const count = Math.max(0, ...banks.map((values) => values.length));
    return Array.from({ length: count }, (_, index) => hash(bank, ...banks.flatMap((values) => values[index] ?? [])));
  }
}
