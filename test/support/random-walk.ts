// Choices of a reproducible random walk: the same seed gives the same walk.
import { randomInt } from 'node:crypto';

/** What all runs choose that decide whether a change is good. */
const FIXED_SEED = 2_718_281;
const given = process.env['TPMUX_TEST_SEED'] ?? FIXED_SEED.toString();

/** The seed of this run: a fixed one, or what TPMUX_TEST_SEED says: a number, or `random`. Whoever uses it shows it, so that it can be given. */
export const runSeed = given === 'random' ? randomInt(2 ** 31) : Number(given);

/** A deterministic source of choices (mulberry32); nothing secret comes from it. */
export class Choices {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** An integer in 0 to `bound` - 1. */
  below(bound: number): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % bound;
  }

  /** One of `values`. */
  of<T>(...values: readonly T[]): T {
    const value = values[this.below(values.length)];
    if (value === undefined && values.length === 0) throw new RangeError('nothing to choose from');
    return value as T;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  /** That many bytes. */
  bytes(size: number): Buffer {
    return Buffer.from(Array.from({ length: size }, () => this.below(256)));
  }

  /** Those bits of `mask` that chance picks, each once in `times`. */
  bits(mask: number, times: number): number {
    let bits = 0;
    for (let i = 0; i < 32; i++) if ((mask & (1 << i)) !== 0 && this.once(times)) bits |= 1 << i;
    return bits >>> 0;
  }
}
