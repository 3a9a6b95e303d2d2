// What the chip refuses, in words for users.
import { EXIT, Failure, reasonOf } from '../failure.js';
import { ChipCleared, ChipFailing, ChipRestarted, ChipUnavailable, HostPolicyError } from '../hardware/chip/errors.js';

/** Puts into words why the chip could not be opened. */
export function chipFailure(tcti: string, error: unknown): Failure {
  const unreachable = error instanceof ChipUnavailable;
  return new Failure(
    {
      code: unreachable ? 'tpm_unreachable' : 'tpm_refused',
      what: `opening the TPM ${tcti}`,
      why: reasonOf(error),
      hint: unreachable
        ? "check --tcti and that no other program has the TPM open; 'tpmux doctor' tells more"
        : "'tpmux doctor' tells more",
      exit: unreachable ? EXIT.unreachable : EXIT.failed,
    },
    { cause: error },
  );
}

/** Puts into words why something could not be done with a guest's keys; what is no trouble with the chip stays as it is. */
export function guestChipFailure(what: string, error: unknown): unknown {
  const parts = explain(error);
  return parts === undefined ? error : new Failure({ ...parts, what, why: reasonOf(error) }, { cause: error });
}

function explain(error: unknown): Pick<Failure, 'code' | 'hint' | 'exit'> | undefined {
  if (error instanceof HostPolicyError) {
    return {
      code: 'host_not_approved',
      hint: 'boot the approved system, or give a policy that the authority signed for this one',
      exit: EXIT.refused,
    };
  }
  if (error instanceof ChipUnavailable || error instanceof ChipRestarted) {
    return { code: 'tpm_unreachable', hint: "it goes on by itself when the TPM is back; 'tpmux status' shows it", exit: EXIT.unreachable };
  }
  if (error instanceof ChipCleared) {
    return { code: 'tpm_cleared', hint: 'put back the TPM that the state directory belongs to', exit: EXIT.failed };
  }
  if (error instanceof ChipFailing)
    return { code: 'tpm_failing', hint: 'power-cycle the host; if that does not help the TPM is broken', exit: EXIT.failed };
  return undefined;
}
