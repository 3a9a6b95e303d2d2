// TPM 2.0 Library Part 3, 23.8, 23.11 to 23.15, 23.17, 23.18 and 23.21: assertions about the command that the session is to authorize.
import {
  PolicyAuthValue,
  PolicyCommandCode,
  PolicyCpHash,
  PolicyDuplicationSelect,
  PolicyLocality,
  PolicyNameHash,
  PolicyPassword,
  PolicyPhysicalPresence,
  PolicyTemplate,
} from '../../../../tpm/commands/index.js';
import { TPM_CC } from '../../../../tpm/constants/index.js';
import { hash } from '../../../../tpm/hash.js';
import { TPM_RC } from '../../../../tpm/response-code.js';
import type { Call } from '../../../dispatch/call.js';
import type { Handlers } from '../../../dispatch/handler.js';
import { extendPolicy } from '../../../policy/policy-update.js';
import type { Session } from '../../../state/session.js';

/** Localities 0 to 4 as bits. */
const NORMAL_LOCALITIES = 0x1f;
/** The first extended locality, which is a number and no bit. */
const FIRST_EXTENDED = 32;

/** Localities that are left when `wanted` is asked for on top of `present` (0 for none asked for so far); 0 if there are none. */
function combineLocalities(present: number, wanted: number): number {
  const isExtended = wanted >= FIRST_EXTENDED;
  if (present !== 0 && isExtended !== present >= FIRST_EXTENDED) return 0;
  if (isExtended) return present === 0 || present === wanted ? wanted : 0;
  return (present === 0 ? NORMAL_LOCALITIES : present) & wanted;
}

/** A digest that is compared when the session is used must have the size of the session's hash. `TPM_RC_SIZE`. */
function checkBoundSize<P extends string>(session: Session, digest: Buffer, call: Call<never, P>, where: P): void {
  if (digest.length !== session.policy.digest.length) throw call.error(TPM_RC.SIZE, where);
}

export const policyLimitHandlers = {
  /** 23.8 */
  PolicyLocality: (_tpm, { locality }, call) => {
    const session = call.session('policySession');
    const combined = locality === 0 ? 0 : combineLocalities(session.policy.locality, locality);
    if (combined === 0) throw call.error(TPM_RC.RANGE, 'locality');
    session.policy.locality = combined;
    extendPolicy(session, PolicyLocality, { locality });
  },

  /** 23.11 */
  PolicyCommandCode: (_tpm, { code }, call) => {
    const session = call.session('policySession');
    const { policy } = session;
    if (policy.commandCode !== 0 && policy.commandCode !== code) throw call.error(TPM_RC.VALUE, 'code');
    if (!call.served.has(code)) throw call.error(TPM_RC.POLICY_CC, 'code');
    policy.commandCode = code;
    extendPolicy(session, PolicyCommandCode, { code });
  },

  /** 23.12 */
  PolicyPhysicalPresence: (_tpm, _request, call) => {
    const session = call.session('policySession');
    session.policy.physicalPresence = true;
    extendPolicy(session, PolicyPhysicalPresence, {});
  },

  /** 23.13 */
  PolicyCpHash: (_tpm, { cpHashA }, call) => {
    const session = call.session('policySession');
    const { policy } = session;
    checkBoundSize(session, cpHashA, call, 'cpHashA');
    const isSame = policy.bound === undefined || (policy.bound.kind === 'cpHash' && policy.bound.digest.equals(cpHashA));
    if (!isSame) throw call.error(TPM_RC.CPHASH);
    policy.bound = { kind: 'cpHash', digest: Buffer.from(cpHashA) };
    extendPolicy(session, PolicyCpHash, { cpHashA });
  },

  /** 23.14 */
  PolicyNameHash: (_tpm, { nameHash }, call) => {
    const session = call.session('policySession');
    checkBoundSize(session, nameHash, call, 'nameHash');
    if (session.policy.bound !== undefined) throw call.error(TPM_RC.CPHASH);
    session.policy.bound = { kind: 'nameHash', digest: Buffer.from(nameHash) };
    extendPolicy(session, PolicyNameHash, { nameHash });
  },

  /** 23.15 */
  PolicyDuplicationSelect: (_tpm, { objectName, newParentName, includeObject }, call) => {
    const session = call.session('policySession');
    const { policy } = session;
    if (policy.bound !== undefined) throw call.error(TPM_RC.CPHASH);
    if (policy.commandCode !== 0) throw call.error(TPM_RC.COMMAND_CODE);
    policy.bound = { kind: 'nameHash', digest: hash(session.authHash, objectName, newParentName) };
    policy.commandCode = TPM_CC.Duplicate;
    extendPolicy(session, PolicyDuplicationSelect, { objectName, newParentName, includeObject });
  },

  /** 23.17 */
  PolicyAuthValue: (_tpm, _request, call) => {
    const session = call.session('policySession');
    session.policy.authValueNeeded = true;
    session.policy.passwordNeeded = false;
    extendPolicy(session, PolicyAuthValue, {});
  },

  /** 23.18 */
  PolicyPassword: (_tpm, _request, call) => {
    const session = call.session('policySession');
    session.policy.passwordNeeded = true;
    session.policy.authValueNeeded = false;
    extendPolicy(session, PolicyPassword, {});
  },

  /** 23.21 */
  PolicyTemplate: (_tpm, { templateHash }, call) => {
    const session = call.session('policySession');
    const { bound } = session.policy;
    if (bound?.kind === 'templateHash') {
      if (!bound.digest.equals(templateHash)) throw call.error(TPM_RC.VALUE, 'templateHash');
    } else if (bound !== undefined) {
      throw call.error(TPM_RC.CPHASH);
    }
    checkBoundSize(session, templateHash, call, 'templateHash');
    session.policy.bound = { kind: 'templateHash', digest: Buffer.from(templateHash) };
    extendPolicy(session, PolicyTemplate, { templateHash });
  },
} satisfies Partial<Handlers>;
