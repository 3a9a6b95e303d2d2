// What an operator does with the host's chip: whom the guests' state is sealed to.
import { EXIT, Failure, reasonOf } from '../failure.js';
import type { Hardware } from '../hardware/hardware.js';
import { currentPolicy, pcrPolicyDigest, policyToSign, type PcrChoice } from '../hardware/host/sealing.js';
import { digestSize } from '../tpm/hash.js';
import type { HostStore } from '../store/host-store.js';
import { guestChipFailure } from './chip-failures.js';
import { decodeKeyBlobs, encodeKeyBlobs } from '../guests/key-blobs.js';
import type { Logger } from '../logger.js';

/** What came of {@link HostOperations.reseal}. */
export interface ResealResult {
  /** Names of guests. */
  readonly resealed: readonly string[];
  readonly failed: readonly { readonly guest: string; readonly reason: string }[];
}

/** A policy over PCRs, for an authority to sign. */
export interface PolicyDigest {
  /** Digest of `PolicyPCR`; hexadecimal. */
  readonly policy: string;
  /** What is signed with SHA-256; hexadecimal. */
  readonly toBeSigned: string;
}

/** Operations on the host's chip. */
export interface HostOperations {
  /** Seals the state key of every guest to whom the configuration says. A guest that fails stays as it is. */
  reseal(): Promise<ResealResult>;
  /** @param values what the PCRs will be, by index; those that are not given are taken as they are now, if none is given */
  policyDigest(choice: PcrChoice, values: ReadonlyMap<number, Buffer>): Promise<PolicyDigest>;
}

/** {@link HostOperations} on a chip and a store. */
export function hostOperations(hardware: Hardware, store: HostStore, log: Logger): HostOperations {
  const { jobs, hostAccount } = hardware;
  const resealOne = async (id: string, name: string): Promise<void> => {
    const identity = decodeKeyBlobs(name, store.guestKeyBlobs(id));
    await store.updateKeyBlobs(id, encodeKeyBlobs(await hardware.resealGuest(identity, name)));
    log.info('state key sealed anew', { guest: name });
  };
  return {
    async reseal() {
      const resealed: string[] = [];
      const failed: { guest: string; reason: string }[] = [];
      for (const { id, name } of store.guests()) {
        try {
          await resealOne(id, name);
          resealed.push(name);
        } catch (error) {
          failed.push({ guest: name, reason: reasonOf(guestChipFailure(`sealing the state key of guest ${name}`, error)) });
          log.error('state key could not be sealed anew', { guest: name, reason: reasonOf(error) });
        }
      }
      return { resealed, failed };
    },
    async policyDigest(choice, values) {
      const policy =
        values.size === 0
          ? await jobs.run(hostAccount, () => currentPolicy(jobs.chip, hostAccount, choice))
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
