// What turns measurements into properties: the interface of property providers, version 1. docs/providers.md is for their authors.

/** Version of everything in this file; a package names the one that it was written for. */
export const PROVIDER_API_VERSION = 1;

/** A digest in the bank that it is extended into. */
export interface BankDigest {
  /** Hash algorithm of the bank (`TPM_ALG_ID`, e.g. 0x000b for SHA-256). */
  readonly bank: number;
  /** The digest as the guest gave it; as long as the bank's digests. */
  readonly digest: Buffer;
}

/** One extend of a virtual PCR, as a property provider sees it. */
export interface Measurement {
  /** PCR index, from 0. */
  readonly index: number;
  /** Locality of the command, 0 to 4. */
  readonly locality: number;
  /** The digests, of banks that are allocated. */
  readonly digests: readonly BankDigest[];
  /** The data that was measured, if the guest gave it (TPM2_PCR_Event); at most 1024 bytes. */
  readonly eventData?: Buffer | undefined;
}

/**
 * What is extended in place of a measurement's digests: as many, in the same order, each as long as its bank's digests; or a refusal.
 */
export type Translation = readonly Uint8Array[] | 'refused';

/** What a provider is told about where it works. */
export interface ProviderContext {
  readonly guest: { readonly id: string; readonly name: string };
  /** The name under which it was configured. */
  readonly provider: string;
  /** `options` of the configuration, as plain data; undefined if there are none. */
  readonly options: unknown;
}

/** A provider at work for one guest, from one reset of the guest to the next. */
export interface PropertyProvider {
  /**
   * Translates one extend. Extends of one guest come one after the other. Only providers of packages may be asynchronous; the
   * guest waits for them. What throws, rejects, or gives something else than a translation counts as failed.
   */
  extend(measurement: Measurement): Translation | Promise<Translation>;
  /**
   * A digest that is extended into PCR `index` whenever that PCR is set to its initial value; undefined for none. Built-in
   * providers only.
   */
  start?(index: number, bank: number): Buffer | undefined;
  /** All that a provider must know to go on elsewhere. It is stored and travels with the guest. */
  save?(): Uint8Array;
}

/** What the default export of a provider's package is. */
export interface ProviderModule {
  /** {@link PROVIDER_API_VERSION} that it was written for. */
  readonly apiVersion: number;
  /**
   * Makes the provider of one guest after a reset, or with `state` (what {@link PropertyProvider.save} gave) one that goes on.
   */
  create(context: ProviderContext, state?: Uint8Array): PropertyProvider | Promise<PropertyProvider>;
}

/** A provider and its name in policies and in the matrix. */
export interface NamedProvider {
  readonly name: string;
  readonly provider: PropertyProvider;
}

/** Changes of the matrix, in their order. */
export type MatrixEvent =
  /** A PCR was set to its initial value in all vectors and banks; {@link MatrixView} shows it. */
  | { readonly kind: 'reset'; readonly index: number }
  /** About to happen: each provider that has one extends its start digest. By provider, then by bank. */
  | { readonly kind: 'start'; readonly index: number; readonly digests: readonly (readonly (Buffer | undefined)[])[] }
  /** About to happen: the translations, by provider, go into the vectors. */
  | { readonly kind: 'extend'; readonly measurement: Measurement; readonly translated: readonly (readonly Uint8Array[])[] }
  /** All banks were replaced by others; all values are zero. */
  | { readonly kind: 'allocated' }
  /** The values of the PCRs for which `wanted` holds were replaced by saved ones. */
  | { readonly kind: 'restored'; readonly wanted: (index: number) => boolean };

/** Is told of every change of the matrix. */
export interface MatrixObserver {
  /** For who is told that it failed. */
  readonly name: string;
  observe(event: MatrixEvent, matrix: MatrixView): void;
}

/** The matrix as observers see it. */
export interface MatrixView {
  readonly size: number;
  readonly banks: readonly number[];
  readonly providerNames: readonly string[];
  /** A view of the value in one provider's vector. Undefined if there is no such provider or bank. */
  readVector(provider: string, bank: number, index: number): Buffer | undefined;
}

/** An ordinary TPM: every digest stands for itself. */
const digestProvider: PropertyProvider = { extend: ({ digests }) => digests.map(({ digest }) => digest) };
export const DIGEST: NamedProvider = { name: 'digest', provider: digestProvider };
