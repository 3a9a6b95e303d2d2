// The errors of the control API: HTTP status, and the exit code that the command line ends with.
import { EXIT, type ExitCode } from '../failure.js';

/** What is known of an error by its code. */
export interface ApiError {
  readonly exit: ExitCode;
  /** HTTP status; by the exit code if it is left out. */
  readonly status?: number;
  readonly meaning: string;
}

/** Errors by their codes. */
export const API_ERRORS = {
  bad_request: { exit: EXIT.usage, meaning: 'a parameter or the body is not what the endpoint takes' },
  no_such_path: { exit: EXIT.usage, status: 404, meaning: 'there is no such resource' },
  no_such_method: { exit: EXIT.usage, status: 405, meaning: 'the resource has no such method' },
  failed: { exit: EXIT.failed, meaning: "something failed inside; the daemon's log tells more" },
  guest_not_found: { exit: EXIT.failed, status: 404, meaning: 'there is no guest of this name' },
  guest_exists: { exit: EXIT.failed, status: 409, meaning: 'there is a guest of this name' },
  guest_not_running: { exit: EXIT.failed, status: 409, meaning: 'the guest is not running' },
  guest_running: { exit: EXIT.failed, status: 409, meaning: 'the guest is running' },
  port_taken: { exit: EXIT.failed, status: 409, meaning: 'another guest has this port' },
  line_taken: { exit: EXIT.failed, status: 409, meaning: 'another guest has this line' },
  bad_name: { exit: EXIT.usage, meaning: 'it cannot be the name of a guest' },
  bad_policy: { exit: EXIT.usage, meaning: 'the policy cannot be used' },
  policy_fixed: { exit: EXIT.refused, meaning: 'this part of a policy is fixed when the guest is created' },
  no_provider: { exit: EXIT.failed, meaning: 'the host has no such property provider' },
  no_device: { exit: EXIT.unsupported, meaning: 'this host cannot make TPM devices' },
  no_bank: { exit: EXIT.usage, meaning: 'the guest has no such PCR bank' },
  no_log: { exit: EXIT.unsupported, meaning: "the guest has no provider 'log'" },
  log_incomplete: { exit: EXIT.failed, meaning: 'entries of the measurement log were dropped' },
  no_evidence: { exit: EXIT.unsupported, meaning: 'the guest has no log, or (status 400, exit code 2) no such provider' },
  bad_backup: { exit: EXIT.usage, meaning: 'it is no backup, or of another version' },
  bad_recovery_key: { exit: EXIT.usage, meaning: 'the key is not an X25519 public key in PEM' },
  not_repairable: { exit: EXIT.failed, meaning: 'what is left of the guest would be another TPM' },
  store: { exit: EXIT.failed, meaning: 'the state cannot be read or written' },
  statement_not_found: { exit: EXIT.failed, status: 404, meaning: 'there is no such property statement' },
  host_not_approved: { exit: EXIT.refused, meaning: "the host's PCRs are not those that the state is sealed to" },
  rollback: { exit: EXIT.refused, meaning: 'the state is an older copy, or was changed' },
  tpm_unreachable: { exit: EXIT.unreachable, meaning: 'the hardware TPM cannot be reached' },
  tpm_cleared: { exit: EXIT.failed, meaning: 'the hardware TPM was cleared, or is another one' },
  tpm_failing: { exit: EXIT.failed, meaning: 'the hardware TPM says that it has failed' },
  shutting_down: { exit: EXIT.failed, status: 503, meaning: 'the daemon is ending' },
} as const satisfies Readonly<Record<string, ApiError>>;

/** A code of {@link API_ERRORS}. */
export type ApiErrorCode = keyof typeof API_ERRORS;

/** Codes that every endpoint can give. */
export const COMMON_ERRORS: readonly ApiErrorCode[] = ['bad_request', 'failed'];

/** HTTP status by exit code. */
const STATUS_OF_EXIT: Readonly<Record<ExitCode, number>> = {
  [EXIT.done]: 200,
  [EXIT.failed]: 500,
  [EXIT.usage]: 400,
  [EXIT.refused]: 403,
  [EXIT.unreachable]: 503,
  [EXIT.unsupported]: 501,
};

/** HTTP status of an error. */
export function statusOf({ code, exit }: { readonly code: string; readonly exit: ExitCode }): number {
  const known: Readonly<Record<string, ApiError>> = API_ERRORS;
  return known[code]?.status ?? STATUS_OF_EXIT[exit];
}
