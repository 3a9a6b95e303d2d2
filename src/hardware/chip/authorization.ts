// TPM 2.0 Library Part 1, 19: how commands to the chip are authorized, and what response codes say about that.
import type { Command } from '../../tpm/command.js';
import { baseCode, TPM_RC } from '../../tpm/response-code.js';
import type { PendingAuthorization } from './session.js';

const EMPTY = Buffer.alloc(0);

/** How one handle of a command is authorized, or how a command that needs no authorization is protected. */
export type Authorization =
  /** The long-lived session; `authValue` is undefined where it only protects the command. */
  | { readonly kind: 'session'; readonly authValue: Buffer | undefined }
  /** A password, in clear on the bus. */
  | { readonly kind: 'password'; readonly authValue: Buffer }
  /** A policy session of the caller's that is neither salted nor bound and whose policy asks for no authValue. */
  | { readonly kind: 'policy'; readonly handle: number };

/** How a command is executed. */
export interface ExecuteOptions {
  /** Names of the handles, in order; a handle that is its own Name (permanent, PCR, session) is left undefined. */
  readonly names?: readonly (Buffer | undefined)[];
  /** Authorization value of the first handle that needs one (default: empty); it goes into the long-lived session's HMAC. */
  readonly authValue?: Buffer;
  /** Instead of {@link authValue}: what each handle that needs authorization gets, then further sessions. */
  readonly authorizations?: readonly Authorization[];
  /** Puts a command that needs no authorization into the long-lived session. */
  readonly protect?: boolean;
}

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
