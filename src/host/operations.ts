// What an operator asks of the host's chip.
import { EXIT, Failure } from '../failure.js';
import type { Hardware } from '../hardware/hardware.js';
import { pcrPolicyDigest, policyToSign, type PcrChoice } from '../hardware/host/sealing.js';
import { digestSize } from '../tpm/hash.js';

/** A policy over PCRs, for an authority to sign. */
interface PolicyDigest {
  /** Digest of `PolicyPCR`; hexadecimal. */
  readonly policy: string;
  /** What is signed with SHA-256; hexadecimal. */
  readonly toBeSigned: string;
}

/** Operations on the host's chip. */
export interface HostOperations {
  /** @param values what the PCRs will be, by index; those that are not given are taken as they are now, if none is given */
  policyDigest(choice: PcrChoice, values: ReadonlyMap<number, Buffer>): Promise<PolicyDigest>;
}

/** {@link HostOperations} on a chip. */
export function hostOperations(hardware: Hardware): HostOperations {
  return {
    async policyDigest(choice, values) {
      const policy =
        values.size === 0
          ? await hardware.pcrPolicy(choice)
          : pcrPolicyDigest(
              choice,
              choice.pcrs.map((pcr) => valueOf(choice, pcr, values)),
            );
      return { policy: policy.toString('hex'), toBeSigned: policyToSign(policy).toString('hex') };
    },
  };
}

function valueOf({ bank }: PcrChoice, pcr: number, values: ReadonlyMap<number, Buffer>): Buffer {
  const value = values.get(pcr);
  if (value?.length === digestSize(bank)) return value;
  throw new Failure({
    code: 'bad_request',
    what: 'computing a policy',
    why: value === undefined ? `PCR ${pcr.toString()} has no value` : `the value of PCR ${pcr.toString()} has not the size of its bank`,
    hint: 'give the values of all PCRs, or of none',
    exit: EXIT.usage,
  });
}
