// What a guest can be called.
import { GUEST_NAME } from '../store/guest-meta.js';
import { badName } from './failures.js';

/** Throws a {@link Failure} unless `name` can be a guest's. */
export function checkName(name: string): void {
  if (!GUEST_NAME.test(name)) throw badName(name);
}
