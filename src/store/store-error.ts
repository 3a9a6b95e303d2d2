// What is wrong with stored state.
import { EXIT, Failure } from '../failure.js';

/** Where in the store the trouble is. */
export interface StorePlace {
  /** The guest's id; absent for host-level records. */
  readonly guest?: string;
  /** The record's key. */
  readonly record?: string;
}

/** Stored state that cannot be read, trusted or written. It is never skipped or replaced: who gets this stops. */
export class StoreError extends Failure {
  override readonly name = 'StoreError';
  readonly guest: string | undefined;
  readonly record: string | undefined;

  constructor(what: string, why: string, hint: string, place: StorePlace = {}, options?: ErrorOptions) {
    super({ code: 'store', what, why, hint, exit: EXIT.failed }, options);
    this.guest = place.guest;
    this.record = place.record;
  }
}
