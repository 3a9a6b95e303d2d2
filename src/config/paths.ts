// Where a daemon's files lie below its state and run directories.
import { join } from 'node:path';

/** Socket of the control API. */
export function controlSocketPath(runDir: string): string {
  return join(runDir, 'control.sock');
}

/** The audit log. */
export function auditLogPath(stateDir: string): string {
  return join(stateDir, 'audit.log');
}

/** Damaged records of guests that were repaired, as they were. */
export function damagedPath(stateDir: string): string {
  return join(stateDir, 'damaged');
}

/** Volatile state of guests that outlives the daemon, but not the host. */
export function volatilePath(runDir: string): string {
  return join(runDir, 'volatile');
}

/** The host's store. */
export function storePath(stateDir: string): string {
  return join(stateDir, 'store');
}
