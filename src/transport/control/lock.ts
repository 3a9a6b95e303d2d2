// Who may use the control channel. A machine (QEMU) has the TPM to itself from SET_DATAFD until its control connection ends.

/** Lets one control connection keep the others waiting. */
export class ControlLock {
  private owner: object | undefined;
  private waiters: (() => void)[] = [];

  /** Whether a machine has the TPM. */
  get taken(): boolean {
    return this.owner !== undefined;
  }

  /** Resolves when nobody but `connection` holds the lock. */
  async wait(connection: object): Promise<void> {
    while (this.owner !== undefined && this.owner !== connection) {
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
  }

  /** Gives the lock to `connection`, which has {@link wait}ed. */
  take(connection: object): void {
    this.owner = connection;
  }

  /** Takes the lock from `connection`, if it holds it; those who wait go on. */
  release(connection: object): void {
    if (this.owner !== connection) return;
    this.owner = undefined;
    for (const wake of this.waiters.splice(0)) wake();
  }
}
