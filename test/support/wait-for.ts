// Waiting for what another process, the kernel or a later turn of the event loop does.
import { setTimeout as sleep } from 'node:timers/promises';

const INTERVAL_MS = 5;
/** Longer than anything takes that a test waits for, on a slow machine with much to do too. */
const PATIENCE_MS = 50_000;

/**
 * Asks `condition` again and again, and resolves with what it gives as soon as that is neither false, undefined nor null. Rejects
 * with what `state` tells when it has not come after `patience` milliseconds, which no machine needs for what goes right.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  state: () => string = (): string => condition.toString(),
  patience = PATIENCE_MS,
): Promise<Exclude<T, false | undefined | null>> {
  const end = performance.now() + patience;
  for (;;) {
    const value = await condition();
    if (value !== false && value !== undefined && value !== null) return value as Exclude<T, false | undefined | null>;
    if (performance.now() > end) throw new Error(`it does not happen: ${state()}`);
    await sleep(INTERVAL_MS);
  }
}

/** Lets everything happen that is due: timers that have run out, and what has come by then on descriptors. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}
