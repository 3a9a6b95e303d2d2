import { NO, type TPMI_YES_NO, YES } from '../../tpm/structures/index.js';

/** A part of a list that GetCapability gives, and whether there is more of it. */
export interface Page<T> {
  readonly items: T[];
  readonly moreData: TPMI_YES_NO;
}

/** The first `count` of `all`, at most `max`: as many as the structure can hold. */
export function page<T>(all: readonly T[], count: number, max: number): Page<T> {
  const items = all.slice(0, Math.min(count, max));
  return { items, moreData: items.length < all.length ? YES : NO };
}
