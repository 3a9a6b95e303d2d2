/** One extend of a virtual PCR, as a property provider sees it. */
export interface Measurement {
  /** PCR index. */
  readonly index: number;
  /** Hash algorithm of the bank (`TPM_ALG_ID`). */
  readonly bank: number;
  /** The digest as the guest gave it; as long as the bank's digests. */
  readonly digest: Buffer;
  /** Locality of the command, 0 to 4. */
  readonly locality: number;
}

/**
 * Gives measurements a meaning: what is extended into the provider's own vector of PCRs in place of the digest.
 * Translations are synchronous and without I/O: they are on the path of every PCR_Extend.
 */
export interface PropertyProvider {
  /** Name in policies and in the matrix. */
  readonly name: string;
  /** The digest to extend, as long as the bank's digests; the provider keeps no view of the measurement's. */
  translate(measurement: Measurement): Buffer;
}

/** An ordinary TPM: every digest stands for itself. */
export const digestProvider: PropertyProvider = { name: 'digest', translate: ({ digest }) => digest };
