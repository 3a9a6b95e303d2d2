// The built-in provider `certified`: what is extended is not a binary's digest but that of the properties that somebody certified.
import type { UnknownTreatment } from '../../config/names.js';
import { hash } from '../../tpm/hash.js';
import type { Measurement, PropertyProvider, Translation } from './provider.js';
import { fixedValue } from '../../statements/fixed-value.js';
import type { PropertySet } from '../../statements/property-set.js';
import type { KeptStatement, StatementSnapshot } from '../../statements/statement-index.js';

export interface CertifiedOptions {
  readonly unknown?: UnknownTreatment | undefined;
  /** Patterns of the properties that count; default all. A thing without any of them is unknown. */
  readonly properties?: readonly string[] | undefined;
}

/** Sets that are remembered with what counts of them. */
const MAX_REMEMBERED = 1024;

/** Every bank is translated by itself: a digest is looked up among the statements that name it in the same bank. */
export class CertifiedProvider implements PropertyProvider {
  private readonly remembered = new Map<PropertySet, PropertySet>();

  constructor(
    private readonly snapshot: StatementSnapshot,
    private readonly options: CertifiedOptions = {},
  ) {}

  extend({ digests }: Measurement): Translation {
    const translated: Buffer[] = [];
    for (const { bank, digest } of digests) {
      const set = this.counting(this.snapshot.lookup(bank, digest));
      if (set !== undefined) translated.push(set.digest(bank));
      else if (this.options.unknown === 'refuse') return 'refused';
      else
        translated.push(
          this.options.unknown === 'distinct' ? hash(bank, fixedValue(bank, 'unknown'), digest) : fixedValue(bank, 'unknown'),
        );
    }
    return translated;
  }

  /** The properties of a digest as far as they count; undefined if it is unknown. */
  properties(bank: number, digest: Buffer): PropertySet | undefined {
    return this.counting(this.snapshot.lookup(bank, digest));
  }

  /** The statements that {@link properties} rests on. */
  statements(bank: number, digest: Buffer): KeptStatement[] {
    const patterns = this.options.properties;
    return this.snapshot.inForce(bank, digest).filter(({ set }) => patterns === undefined || !set.only(patterns).empty);
  }

  /** Which statements this provider goes by, so that a guest that resumes goes on with them if they are still at hand. */
  save(): Buffer {
    return Buffer.from(this.snapshot.id, 'hex');
  }

  private counting(set: PropertySet | undefined): PropertySet | undefined {
    const { properties } = this.options;
    if (set === undefined || properties === undefined) return set;
    let counting = this.remembered.get(set);
    if (counting === undefined) {
      if (this.remembered.size >= MAX_REMEMBERED) this.remembered.clear();
      counting = set.only(properties);
      this.remembered.set(set, counting);
    }
    return counting.empty ? undefined : counting;
  }
}
