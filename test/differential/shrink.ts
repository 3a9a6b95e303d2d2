// Delta debugging: leaves out steps as long as the same difference shows.
import { type Failure, replay, signatureOf } from './runner.js';
import type { Step } from './step.js';

const without = (steps: readonly Step[], start: number, count: number): Step[] => [...steps.slice(0, start), ...steps.slice(start + count)];

/** The shortest sequence found that ends with the same difference; `deadline` is in milliseconds since the epoch. */
export async function shrink(failure: Failure, deadline: number): Promise<Failure> {
  const wanted = signatureOf(failure);
  let best = failure;
  for (let size = Math.ceil(best.steps.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    // From the end: what is near the difference is more likely to matter, so the rest goes sooner.
    for (let start = 0; start < best.steps.length - 1;) {
      if (Date.now() > deadline) return best;
      const count = Math.min(size, best.steps.length - 1 - start);
      const shorter = await replay(best.seed, without(best.steps, start, count));
      if (shorter !== undefined && signatureOf(shorter) === wanted) best = shorter;
      else start += count;
    }
  }
  return best;
}
