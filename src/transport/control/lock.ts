// Who may use the control channel. A machine (QEMU) has the TPM to itself from SET_DATAFD until its control connection ends.

import type { Holder } from './holder.js';

/** What can hold the lock: a control connection. */
export interface LockOwner {
  /** Who is at its other end, if that is known. */
  readonly holder: Holder | undefined;
}

/** Lets one control connection keep the others waiting. */
export class ControlLock {
  private owner: LockOwner | undefined;
  private waiters: (() => void)[] = [];

  /** The connection of the machine that has the TPM. */
  get heldBy(): LockOwner | undefined {
    return this.owner;
  }

  /** Resolves when nobody but `connection` holds the lock. */
  async wait(connection: LockOwner): Promise<void> {
    while (this.owner !== undefined && this.owner !== connection) {
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
  }

  /** Gives the lock to `connection`, which has {@link wait}ed. */
  take(connection: LockOwner): void {
    this.owner = connection;
  }

  /** Takes the lock from `connection`, if it holds it; those who wait go on. */
  release(connection: LockOwner): void {
    if (this.owner !== connection) return;
    this.owner = undefined;
    for (const wake of this.waiters.splice(0)) wake();
  }
}
