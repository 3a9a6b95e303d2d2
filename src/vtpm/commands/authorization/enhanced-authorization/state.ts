// TPM 2.0 Library Part 3, 23.7, 23.9, 23.10, 23.19 and 23.20: assertions about the TPM's state, and the digest of all assertions.
import { PolicyCounterTimer, PolicyNV, PolicyNvWritten, PolicyPCR } from '../../../../tpm/commands/index.js';
import { TPM_RC } from '../../../../tpm/response-code.js';
import type { PolicyTerms } from '../../../../tpm/policy-digest.js';
import { encode } from '../../../../tpm/schema.js';
import { type TPML_PCR_SELECTION, TPMS_TIME_INFO, NO, YES } from '../../../../tpm/structures/index.js';
import type { Call } from '../../../dispatch/call.js';
import type { Handlers } from '../../../dispatch/handler.js';
import { checkReadAccess } from '../../../dispatch/nv-access.js';
import { isConditionMet, operandAt } from '../../../policy/condition.js';
import { extendPolicy } from '../../../policy/policy-update.js';
import type { Tpm } from '../../../tpm.js';

/** `TPMS_TIME_INFO` as it is now, in canonical form: Time, Clock, resetCount, restartCount, safe. */
function timeInfo(tpm: Tpm): Buffer {
  const { time, clock, resetCount, restartCount, safe } = tpm.clock;
  const info: TPMS_TIME_INFO = { time, clockInfo: { clock, resetCount, restartCount, safe: safe ? YES : NO } };
  return encode(TPMS_TIME_INFO, info);
}

/** What a policy says of PCRs. */
interface PcrAssertion {
  readonly pcrDigest: Buffer;
  readonly pcrs: TPML_PCR_SELECTION;
  /** The provider whose value counts at a PCR index. */
  readonly vector: (index: number) => string;
}

/**
 * Asserts the values of PCRs, for PolicyPCR and its like, and returns what that puts into the policy digest. An empty `pcrDigest` stands for
 * the present values; in a trial session any digest is taken. A change of any PCR in any vector ends what the session asserts, by the one
 * counter that all vectors have.
 */
export function assertPcrs(
  { pcrs: state }: Tpm,
  call: Call<'policySession', 'pcrDigest'>,
  { pcrDigest, pcrs, vector }: PcrAssertion,
): PolicyTerms<typeof PolicyPCR> {
  const session = call.session('policySession');
  const { policy } = session;
  const current = state.digestOf(pcrs, session.authHash, vector);
  if (!session.isTrial) {
    if (policy.pcrCounter !== undefined && policy.pcrCounter !== state.updateCounter) throw call.error(TPM_RC.PCR_CHANGED);
    if (pcrDigest.length > 0 && !pcrDigest.equals(current)) throw call.error(TPM_RC.VALUE, 'pcrDigest');
    policy.pcrCounter = state.updateCounter;
  }
  return { pcrs: state.filter(pcrs), pcrDigest: session.isTrial && pcrDigest.length > 0 ? pcrDigest : current };
}

export const policyStateHandlers = {
  /** 23.7 */
  PolicyPCR: (tpm, { pcrDigest, pcrs }, call) => {
    extendPolicy(call.session('policySession'), PolicyPCR, assertPcrs(tpm, call, { pcrDigest, pcrs, vector: tpm.pcrs.presented }));
  },

  /** 23.9 */
  PolicyNV: (tpm, { authHandle, operandB, offset, operation }, call) => {
    const session = call.session('policySession');
    const index = call.nvIndex('nvIndex');
    if (!session.isTrial) {
      checkReadAccess(authHandle, index);
      if (offset > index.data.length) throw call.error(TPM_RC.VALUE, 'offset');
      if (index.data.length - offset < operandB.length) throw call.error(TPM_RC.SIZE, 'operandB');
      if (!isConditionMet(operation, operandAt(index.data, offset, operandB), operandB)) throw call.error(TPM_RC.POLICY);
    }
    extendPolicy(session, PolicyNV, { operandB, offset, operation, nvIndex: tpm.nv.nameOf(index) });
  },

  /** 23.10. Offset and size are checked in a trial session too: the policy could never be met. */
  PolicyCounterTimer: (tpm, { operandB, offset, operation }, call) => {
    const session = call.session('policySession');
    const info = timeInfo(tpm);
    if (offset > info.length) throw call.error(TPM_RC.VALUE, 'offset');
    if (offset + operandB.length > info.length) throw call.error(TPM_RC.RANGE);
    if (!session.isTrial && !isConditionMet(operation, operandAt(info, offset, operandB), operandB)) throw call.error(TPM_RC.POLICY);
    extendPolicy(session, PolicyCounterTimer, { operandB, offset, operation });
  },

  /** 23.19 */
  PolicyGetDigest: (_tpm, _request, call) => ({ policyDigest: call.session('policySession').policy.digest }),

  /** 23.20 */
  PolicyNvWritten: (_tpm, { writtenSet }, call) => {
    const session = call.session('policySession');
    const { policy } = session;
    const written = writtenSet === YES;
    if (policy.nvWritten !== undefined && policy.nvWritten !== written) throw call.error(TPM_RC.VALUE, 'writtenSet');
    policy.nvWritten = written;
    extendPolicy(session, PolicyNvWritten, { writtenSet });
  },
} satisfies Partial<Handlers>;
