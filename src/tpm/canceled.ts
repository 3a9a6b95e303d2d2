// TPM 2.0 Library Part 1, 11.4.6.5: commands that their caller gave up.
import { TPM_RC, TpmError } from './response-code.js';

/** Throws `TPM_RC_CANCELED` if nobody waits any more. */
export function requireWanted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new TpmError(TPM_RC.CANCELED);
}

/**
 * What `work` gives, or `TPM_RC_CANCELED` as soon as `signal` is aborted. The work goes on then; `discard` is given its result, if it has one.
 */
export async function orCanceled<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  discard: (late: T) => void = () => undefined,
): Promise<T> {
  if (signal === undefined) return await work;
  let giveUp = (): void => undefined;
  const canceled = new Promise<never>((_resolve, reject) => {
    giveUp = (): void => {
      reject(new TpmError(TPM_RC.CANCELED));
    };
  });
  signal.addEventListener('abort', giveUp, { once: true });
  if (signal.aborted) giveUp();
  let taken = false;
  try {
    const result = await Promise.race([canceled, work]);
    taken = true;
    return result;
  } finally {
    signal.removeEventListener('abort', giveUp);
    canceled.catch(() => undefined);
    // Also where the work itself failed; then there is nothing to discard.
    if (!taken) work.then(discard, () => undefined);
  }
}

/** Whether a command was given up. Its signal costs something only where somebody waits for it: most commands are over before. */
export class Cancellation {
  private controller: AbortController | undefined;
  private canceled = false;

  /** Whether {@link cancel} was called. */
  get isCanceled(): boolean {
    return this.canceled;
  }

  /** Aborted by {@link cancel}. */
  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this.canceled) this.controller.abort();
    }
    return this.controller.signal;
  }

  /** The command is given up. */
  cancel(): void {
    this.canceled = true;
    this.controller?.abort();
  }
}
