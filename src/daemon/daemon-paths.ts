// Where a daemon's files lie below its state and run directories.
import { join } from 'node:path';

/** Socket of the control API. */
export function controlSocketPath(runDir: string): string {
  return join(runDir, 'control.sock');
}

/** The host's store. */
export function storePath(stateDir: string): string {
  return join(stateDir, 'store');
}
