// TPM 2.0 Library Part 2, 9: interface types of handles. All of them answer `TPM_RC_VALUE` to a handle of the wrong kind.
import { HANDLE_RANGE, type HandleRange, inRange, SAVED_HANDLE, TPM_RH, TPM_RS } from '../constants/index.js';
import { TPM_RC } from '../response-code.js';
import { checked, type Schema, uint32 } from '../schema.js';

/** A handle in one of `ranges` or among `values`. */
function handle(ranges: readonly HandleRange[], values: readonly number[] = []): Schema<number> {
  const allowed = (value: number): boolean => values.includes(value) || ranges.some((range) => inRange(value, range));
  return {
    ...checked(uint32, allowed, TPM_RC.VALUE),
    shape: { kind: 'integer', bytes: 4, values, ranges: ranges.map(({ first, last }) => [first, last] as const) },
  };
}

const { TRANSIENT, PERSISTENT, HMAC_SESSION, POLICY_SESSION, PCR, NV_INDEX, AUTH, ACT, AC } = HANDLE_RANGE;

/** A loaded object. */
export const TPMI_DH_OBJECT = handle([TRANSIENT, PERSISTENT]);
export const TPMI_DH_OBJECT_PLUS = handle([TRANSIENT, PERSISTENT], [TPM_RH.NULL]);
/** A parent: an object or a hierarchy. */
export const TPMI_DH_PARENT = handle([TRANSIENT, PERSISTENT], [TPM_RH.OWNER, TPM_RH.PLATFORM, TPM_RH.ENDORSEMENT]);
export const TPMI_DH_PARENT_PLUS = handle([TRANSIENT, PERSISTENT], [TPM_RH.OWNER, TPM_RH.PLATFORM, TPM_RH.ENDORSEMENT, TPM_RH.NULL]);
/** A persistent object. */
export const TPMI_DH_PERSISTENT = handle([PERSISTENT]);

const ENTITIES = [TPM_RH.OWNER, TPM_RH.ENDORSEMENT, TPM_RH.PLATFORM, TPM_RH.LOCKOUT] as const;
/** Whatever has an authorization value. */
export const TPMI_DH_ENTITY = handle([TRANSIENT, PERSISTENT, NV_INDEX, PCR, AUTH], ENTITIES);
export const TPMI_DH_ENTITY_PLUS = handle([TRANSIENT, PERSISTENT, NV_INDEX, PCR, AUTH], [...ENTITIES, TPM_RH.NULL]);
/** A PCR. */
export const TPMI_DH_PCR = handle([PCR]);
export const TPMI_DH_PCR_PLUS = handle([PCR], [TPM_RH.NULL]);

/** A session in an authorization area. */
export const TPMI_SH_AUTH_SESSION = handle([HMAC_SESSION, POLICY_SESSION]);
/** As {@link TPMI_SH_AUTH_SESSION}, or a password. */
export const TPMI_SH_AUTH_SESSION_PLUS = handle([HMAC_SESSION, POLICY_SESSION], [TPM_RS.PW]);
/** An HMAC session. */
export const TPMI_SH_HMAC = handle([HMAC_SESSION]);
/** A policy or trial session. */
export const TPMI_SH_POLICY = handle([POLICY_SESSION]);

/** What `ContextSave` and `FlushContext` take: a session or a transient object. */
export const TPMI_DH_CONTEXT = handle([HMAC_SESSION, POLICY_SESSION, TRANSIENT]);
/** What a saved context is of: a session, or one of {@link SAVED_HANDLE}. */
export const TPMI_DH_SAVED = handle([HMAC_SESSION, POLICY_SESSION], Object.values(SAVED_HANDLE));

/** A hierarchy. */
export const TPMI_RH_HIERARCHY = handle([], [TPM_RH.OWNER, TPM_RH.PLATFORM, TPM_RH.ENDORSEMENT]);
export const TPMI_RH_HIERARCHY_PLUS = handle([], [TPM_RH.OWNER, TPM_RH.PLATFORM, TPM_RH.ENDORSEMENT, TPM_RH.NULL]);
/** What `HierarchyControl` enables and disables. */
export const TPMI_RH_ENABLES = handle([], [TPM_RH.OWNER, TPM_RH.PLATFORM, TPM_RH.ENDORSEMENT, TPM_RH.PLATFORM_NV]);
export const TPMI_RH_ENABLES_PLUS = handle([], [TPM_RH.OWNER, TPM_RH.PLATFORM, TPM_RH.ENDORSEMENT, TPM_RH.PLATFORM_NV, TPM_RH.NULL]);
/** A hierarchy with an authorization value, lockout included. */
export const TPMI_RH_HIERARCHY_AUTH = handle([], [TPM_RH.OWNER, TPM_RH.PLATFORM, TPM_RH.ENDORSEMENT, TPM_RH.LOCKOUT]);
/** Whatever has a policy of its own: a hierarchy, lockout or a countdown timer. */
export const TPMI_RH_HIERARCHY_POLICY = handle([ACT], [TPM_RH.OWNER, TPM_RH.PLATFORM, TPM_RH.ENDORSEMENT, TPM_RH.LOCKOUT]);
export const TPMI_RH_PLATFORM = handle([], [TPM_RH.PLATFORM]);
export const TPMI_RH_OWNER = handle([], [TPM_RH.OWNER]);
export const TPMI_RH_OWNER_PLUS = handle([], [TPM_RH.OWNER, TPM_RH.NULL]);
export const TPMI_RH_ENDORSEMENT = handle([], [TPM_RH.ENDORSEMENT]);
export const TPMI_RH_ENDORSEMENT_PLUS = handle([], [TPM_RH.ENDORSEMENT, TPM_RH.NULL]);
/** Who provisions: owner or platform. */
export const TPMI_RH_PROVISION = handle([], [TPM_RH.OWNER, TPM_RH.PLATFORM]);
/** Who clears: lockout or platform. */
export const TPMI_RH_CLEAR = handle([], [TPM_RH.LOCKOUT, TPM_RH.PLATFORM]);
/** Who authorizes the use of an NV index: owner, platform or the index itself. */
export const TPMI_RH_NV_AUTH = handle([NV_INDEX], [TPM_RH.OWNER, TPM_RH.PLATFORM]);
export const TPMI_RH_LOCKOUT = handle([], [TPM_RH.LOCKOUT]);
/** An NV index. */
export const TPMI_RH_NV_INDEX = handle([NV_INDEX]);
/** An attached component. */
export const TPMI_RH_AC = handle([AC]);
/** An authenticated countdown timer. */
export const TPMI_RH_ACT = handle([ACT]);
