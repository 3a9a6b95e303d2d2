// TPM 2.0 Library Part 2, 7: handles.
import { IMPLEMENTATION_PCR, MAX_ACTIVE_SESSIONS, MAX_LOADED_OBJECTS } from './limits.js';

/** Handle types: the most significant byte of a handle (Part 2, 7.2). */
export const TPM_HT = {
  PCR: 0x00,
  NV_INDEX: 0x01,
  HMAC_SESSION: 0x02,
  LOADED_SESSION: 0x02,
  POLICY_SESSION: 0x03,
  SAVED_SESSION: 0x03,
  PERMANENT: 0x40,
  TRANSIENT: 0x80,
  PERSISTENT: 0x81,
  AC: 0x90,
} as const;

/** Permanent handles (Part 2, 7.4). */
export const TPM_RH = {
  SRK: 0x40000000,
  OWNER: 0x40000001,
  REVOKE: 0x40000002,
  TRANSPORT: 0x40000003,
  OPERATOR: 0x40000004,
  ADMIN: 0x40000005,
  EK: 0x40000006,
  NULL: 0x40000007,
  UNASSIGNED: 0x40000008,
  LOCKOUT: 0x4000000a,
  ENDORSEMENT: 0x4000000b,
  PLATFORM: 0x4000000c,
  PLATFORM_NV: 0x4000000d,
  AUTH_00: 0x40000010,
  AUTH_FF: 0x4000010f,
  ACT_0: 0x40000110,
  ACT_F: 0x4000011f,
} as const;

/** The session handle of a password authorization (Part 2, 7.4). */
export const TPM_RS = { PW: 0x40000009 } as const;

/** First and last handle of a range, both included. */
export interface HandleRange {
  readonly first: number;
  readonly last: number;
}

/** Handle ranges (`TPM_HC`, Part 2, 7.5). Bounds that an implementation chooses come from its limits. */
export const HANDLE_RANGE = {
  PCR: { first: 0x00000000, last: IMPLEMENTATION_PCR - 1 },
  NV_INDEX: { first: 0x01000000, last: 0x01ffffff },
  HMAC_SESSION: { first: 0x02000000, last: 0x02000000 + MAX_ACTIVE_SESSIONS - 1 },
  POLICY_SESSION: { first: 0x03000000, last: 0x03000000 + MAX_ACTIVE_SESSIONS - 1 },
  PERMANENT: { first: 0x40000000, last: 0x4000011f },
  TRANSIENT: { first: 0x80000000, last: 0x80000000 + MAX_LOADED_OBJECTS - 1 },
  PERSISTENT: { first: 0x81000000, last: 0x81ffffff },
  /** Persistent handles that only the platform assigns. */
  PLATFORM_PERSISTENT: { first: 0x81800000, last: 0x81ffffff },
  /** NV indices of attached components. */
  NV_AC: { first: 0x01d00000, last: 0x01d0ffff },
  AC: { first: 0x90000000, last: 0x9000ffff },
  AUTH: { first: TPM_RH.AUTH_00, last: TPM_RH.AUTH_FF },
  ACT: { first: TPM_RH.ACT_0, last: TPM_RH.ACT_F },
} as const satisfies Record<string, HandleRange>;

/** Whether `handle` lies in `range`. */
export function inRange(handle: number, range: HandleRange): boolean {
  return handle >= range.first && handle <= range.last;
}

/** Handle type of `handle`, a {@link TPM_HT}. */
export function handleType(handle: number): number {
  return handle >>> 24;
}

/** `savedHandle` of a saved context of an object (Part 2, 9); a session's is its own handle. */
export const SAVED_HANDLE = {
  TRANSIENT: 0x80000000,
  SEQUENCE: 0x80000001,
  TRANSIENT_ST_CLEAR: 0x80000002,
} as const;
