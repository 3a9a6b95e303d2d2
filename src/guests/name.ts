// What a guest can be called.
import { badName } from './failures.js';

const NAME = /^[a-zA-Z0-9._-]{1,63}$/;

/** Throws a {@link Failure} unless `name` can be a guest's. It becomes a directory's name: `.` and `..` cannot. */
export function checkName(name: string): void {
  if (!NAME.test(name) || name === '.' || name === '..') throw badName(name);
}
