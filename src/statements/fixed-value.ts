// What stands in a PCR for a measurement that nobody could translate.
import { hash } from '../tpm/hash.js';

/** What stands for a measurement that has no translation. */
export const FIXED_VALUES = ['unknown', 'refused', 'failed'] as const;
export type FixedValue = (typeof FIXED_VALUES)[number];

const fixed = new Map<string, Buffer>();

/**
 * The digest that is extended for a measurement that a provider does not know, refuses or failed at: the bank's hash of the ASCII
 * text `tpmux property provider: ` and the word. It stays the same in all versions. Not to be changed by the caller.
 */
export function fixedValue(bank: number, word: FixedValue): Buffer {
  const key = `${bank.toString()} ${word}`;
  let value = fixed.get(key);
  if (value === undefined) {
    value = hash(bank, Buffer.from(`tpmux property provider: ${word}`, 'ascii'));
    fixed.set(key, value);
  }
  return value;
}
