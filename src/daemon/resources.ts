// What a daemon has open.
import { reasonOf } from '../failure.js';
import type { Logger } from '../logger.js';

/** Things that were opened in order, and are closed in the opposite order. */
export class Resources {
  private readonly opened: { readonly what: string; readonly close: () => Promise<void> }[] = [];

  constructor(private readonly log: Logger) {}

  /** @param what for the log, if `close` rejects */
  add(what: string, close: () => Promise<void>): void {
    this.opened.push({ what, close });
  }

  /** Closes all; what cannot be closed does not stop the rest. Resolves with the first error, if there was one. */
  async close(): Promise<unknown> {
    let failed: unknown;
    for (const { what, close } of this.opened.splice(0).reverse()) {
      try {
        await close();
      } catch (error) {
        this.log.error('could not be closed in order', { what, reason: reasonOf(error) });
        failed ??= error;
      }
    }
    return failed;
  }
}
