// TPM 2.0 Library Part 1, 19: how commands to the chip are authorized, and what response codes say about that.
import type { Command } from '../../tpm/command.js';
import { baseCode, TPM_RC } from '../../tpm/response-code.js';
import type { Authorization, ExecuteOptions } from './sender.js';
import type { PendingAuthorization } from './session.js';

const EMPTY = Buffer.alloc(0);

/** The sessions of a command. */
export function chooseAuthorizations(of: Command, options: ExecuteOptions, hasSession: boolean): readonly Authorization[] {
  if (options.authorizations !== undefined) return options.authorizations;
  const needed = of.handleList.filter(([, field]) => field.role !== undefined).length;
  if (needed === 0) return options.protect === true && hasSession ? [{ kind: 'session', authValue: undefined }] : [];
  const authValue = options.authValue ?? EMPTY;
  const others = Array.from({ length: needed - 1 }, (): Authorization => ({ kind: 'password', authValue: EMPTY }));
  return [{ kind: hasSession ? 'session' : 'password', authValue }, ...others];
}

/** Index of the long-lived session among the command's, if `code` is about it. */
export function sessionNumber(code: number, auths: readonly (PendingAuthorization | undefined)[]): number | undefined {
  const index = auths.findIndex((pending) => pending !== undefined);
  return index >= 0 && (code & 0xf80) === 0x880 + ((index + 1) << 8) ? index : undefined;
}

/** Whether the chip does not have the session: it was reset and started up behind our back, or somebody flushed all. */
export function isSessionLost(code: number, auths: readonly (PendingAuthorization | undefined)[]): boolean {
  const index = auths.findIndex((pending) => pending !== undefined);
  if (index >= 0 && code === TPM_RC.REFERENCE_S0 + index) return true;
  const base = baseCode(code);
  return sessionNumber(code, auths) !== undefined && (base === TPM_RC.HANDLE || base === TPM_RC.VALUE);
}

/** Whether the chip has no room for an object. */
export function isOutOfSlots(code: number): boolean {
  return code === TPM_RC.OBJECT_MEMORY || code === TPM_RC.OBJECT_HANDLES;
}

/** Whether the chip has no room for a session. */
export function isOutOfSessions(code: number): boolean {
  return code === TPM_RC.SESSION_MEMORY || code === TPM_RC.SESSION_HANDLES || code === TPM_RC.CONTEXT_GAP;
}
