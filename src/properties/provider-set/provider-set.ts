// The property providers that a guest has in one power cycle. Nothing in it changes but what the providers themselves remember.
import { IMPLEMENTATION_PCR } from '../../tpm/constants/index.js';
import type { MatrixProviders, ProviderFailed } from '../matrix/matrix.js';
import type { SavedChoice, SavedProvider } from '../matrix/saved-matrix.js';
import type { LogObserver } from '../measurement-log/log-observer.js';
import type { MeasurementLog } from '../measurement-log/measurement-log.js';
import { DIGEST, type NamedProvider, type PropertyProvider } from '../providers/provider.js';

/** Names of providers by PCR: whose vector the guest sees, and whose attestation goes by. */
export interface VectorChoice {
  readonly presented: readonly string[];
  readonly attested: readonly string[];
}

/** A provider, and what frees what a package holds for it. */
export type ClosableProvider = PropertyProvider & { close?(): void };

/** What a set is made of. */
export interface ProviderSetParts {
  /** At least one, with distinct names. */
  readonly providers: readonly (NamedProvider & { readonly provider: ClosableProvider })[];
  readonly vectors: VectorChoice;
  /** Keeps the measurement log; undefined if there is none. */
  readonly observer: LogObserver | undefined;
  readonly failed: ProviderFailed;
}

/** The providers of a power cycle. */
export class ProviderSet implements MatrixProviders {
  readonly names: readonly string[];

  constructor(private readonly parts: ProviderSetParts) {
    this.names = parts.providers.map(({ name }) => name);
  }

  /** `digest` alone, as in an ordinary TPM. */
  static ordinary(): ProviderSet {
    const all = Array.from({ length: IMPLEMENTATION_PCR }, () => DIGEST.name);
    const vectors = { presented: all, attested: all };
    return new ProviderSet({ providers: [DIGEST], vectors, observer: undefined, failed: () => undefined });
  }

  get providers(): readonly NamedProvider[] {
    return this.parts.providers;
  }

  get observer(): LogObserver | undefined {
    return this.parts.observer;
  }

  get failed(): ProviderFailed {
    return this.parts.failed;
  }

  /** The measurement log; undefined if there is none. */
  get log(): MeasurementLog | undefined {
    return this.parts.observer?.log;
  }

  /** The provider whose vector the guest sees at PCR `index`. */
  readonly presented = (index: number): string => this.parts.vectors.presented[index] ?? this.first;

  /** The provider whose vector attestation goes by at PCR `index`. */
  readonly attested = (index: number): string => this.parts.vectors.attested[index] ?? this.first;

  /** The running provider of a name. */
  provider(name: string): PropertyProvider | undefined {
    return this.parts.providers.find((one) => one.name === name)?.provider;
  }

  /** Whose vector counts where, to go on with. */
  get choice(): SavedChoice {
    const { presented, attested } = this.parts.vectors;
    return { presented: presented.map((name) => Buffer.from(name)), attested: attested.map((name) => Buffer.from(name)) };
  }

  /** What the providers keep for themselves, to go on with. One that fails has nothing, and is told. */
  saveStates(): SavedProvider[] {
    return this.parts.providers.flatMap(({ name, provider }) => {
      try {
        return provider.save === undefined ? [] : [{ provider: Buffer.from(name), state: Buffer.from(provider.save()) }];
      } catch (error) {
        this.parts.failed(name, error);
        return [];
      }
    });
  }

  /** Frees what packages hold for the guest. The set is not used after that. */
  close(): void {
    for (const { provider } of this.parts.providers) provider.close?.();
  }

  private get first(): string {
    return this.names[0] ?? DIGEST.name;
  }
}
