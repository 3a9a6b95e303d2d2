// What a daemon and the thread of a provider package say to each other. Everything is plain data.
import type { ProviderContext } from './provider.js';

/** What the thread is started with. */
export interface ThreadData {
  /** Module to import: a `file:` URL or a package's name. */
  readonly module: string;
}

/** A measurement as plain data. */
export interface PlainMeasurement {
  readonly index: number;
  readonly locality: number;
  readonly digests: readonly { readonly bank: number; readonly digest: Uint8Array }[];
  readonly eventData?: Uint8Array | undefined;
}

/** One extend of one guest. */
export interface ExtendRequest {
  readonly kind: 'extend';
  /** Counts requests, so that an answer is known to be of this one. */
  readonly number: number;
  /** Which guest's provider. */
  readonly instance: number;
  /** Given if the thread may not know the instance yet: what to make it of. */
  readonly make?: { readonly context: ProviderContext; readonly state?: Uint8Array | undefined } | undefined;
  readonly measurement: PlainMeasurement;
}

/** A guest's provider is not needed any more. */
interface ForgetRequest {
  readonly kind: 'forget';
  readonly instance: number;
}

export type ThreadRequest = ExtendRequest | ForgetRequest;

/** An answer: `state` is what the provider's `save` gave after it. */
export type ThreadAnswer =
  | { readonly kind: 'ready' }
  | { readonly kind: 'unusable'; readonly why: string }
  | {
      readonly kind: 'translated';
      readonly number: number;
      readonly translation: readonly Uint8Array[] | 'refused';
      readonly state?: Uint8Array | undefined;
    }
  | { readonly kind: 'failed'; readonly number: number; readonly why: string };
