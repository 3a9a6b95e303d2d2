// Runs operations one after the other.

/** Operations in the order in which they came. */
export class SerialQueue {
  private last: Promise<unknown> = Promise.resolve();

  /** Runs `operation` when all before it have ended, well or not. */
  run<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.last.then(operation);
    this.last = result.catch(() => undefined);
    return result;
  }
}
