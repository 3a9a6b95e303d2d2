// TPM 2.0 Library Part 3, 30.2: TPM_CAP_HANDLES, TPM_CAP_AUTH_POLICIES.
import { HANDLE_RANGE, handleType, TPM_HT, TPM_RH, TPM_RS } from '../../tpm/constants/index.js';
import type { TPMS_TAGGED_POLICY } from '../../tpm/structures/index.js';
import type { Tpm } from '../tpm.js';

const permanentHandles: readonly number[] = [
  TPM_RH.OWNER,
  TPM_RH.NULL,
  TPM_RS.PW,
  TPM_RH.LOCKOUT,
  TPM_RH.ENDORSEMENT,
  TPM_RH.PLATFORM,
  TPM_RH.PLATFORM_NV,
];
const INDEX_MASK = 0x00ffffff;

/** Handles in use of the type of `first`, from `first` on, ascending; undefined if there is no such type. */
export function handlesFrom(tpm: Tpm, first: number): number[] | undefined {
  switch (handleType(first)) {
    case TPM_HT.PCR:
      return Array.from({ length: tpm.pcrs.matrix.size }, (_, i) => i).slice(first);
    case TPM_HT.NV_INDEX:
      return tpm.nv.handles.filter((handle) => handle >= first);
    case TPM_HT.LOADED_SESSION:
      return fromIndex(tpm.sessions.loaded, first);
    case TPM_HT.SAVED_SESSION:
      return fromIndex(tpm.sessions.saved, first).map((handle) => (HANDLE_RANGE.HMAC_SESSION.first | (handle & INDEX_MASK)) >>> 0);
    case TPM_HT.PERMANENT:
      return permanentHandles.filter((handle) => handle >= first);
    case TPM_HT.TRANSIENT:
      return tpm.objects.handles.filter((handle) => handle >= first);
    case TPM_HT.PERSISTENT:
      return tpm.persistent.handles.filter((handle) => handle >= first);
    default:
      return undefined;
  }
}

/** Sessions are counted by index, whatever their type; of saved ones nobody asks it (the reference code reports all as HMAC sessions). */
function fromIndex(handles: readonly number[], first: number): number[] {
  return handles.filter((handle) => (handle & INDEX_MASK) >= (first & INDEX_MASK));
}

/** Policies of the permanent handles that can have one, from `first` on. */
export function policiesFrom({ hierarchies }: Tpm, first: number): TPMS_TAGGED_POLICY[] {
  const { owner, lockout, endorsement, platform } = hierarchies;
  return [owner, lockout, endorsement, platform]
    .filter(({ handle }) => handle >= first)
    .map(({ handle, policyAlg, policy }) => ({
      handle,
      policyHash: { hashAlg: policyAlg, digest: policy.length === 0 ? null : policy } as TPMS_TAGGED_POLICY['policyHash'],
    }));
}
