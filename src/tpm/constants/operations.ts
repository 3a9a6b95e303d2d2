// TPM 2.0 Library Part 2, 6.7 to 6.11 and 16: constants that select what a command does.

/** Steps of `ClockRateAdjust` (signed, 8 bits; Part 2, 6.7). */
export const TPM_CLOCK_ADJUST = {
  COARSE_SLOWER: -3,
  MEDIUM_SLOWER: -2,
  FINE_SLOWER: -1,
  NO_CHANGE: 0,
  FINE_FASTER: 1,
  MEDIUM_FASTER: 2,
  COARSE_FASTER: 3,
} as const;
export type TPM_CLOCK_ADJUST = (typeof TPM_CLOCK_ADJUST)[keyof typeof TPM_CLOCK_ADJUST];

/** Comparisons of `PolicyNV` and `PolicyCounterTimer` (16 bits; Part 2, 6.8). */
export const TPM_EO = {
  EQ: 0x0000,
  NEQ: 0x0001,
  SIGNED_GT: 0x0002,
  UNSIGNED_GT: 0x0003,
  SIGNED_LT: 0x0004,
  UNSIGNED_LT: 0x0005,
  SIGNED_GE: 0x0006,
  UNSIGNED_GE: 0x0007,
  SIGNED_LE: 0x0008,
  UNSIGNED_LE: 0x0009,
  BITSET: 0x000a,
  BITCLEAR: 0x000b,
} as const;
export type TPM_EO = (typeof TPM_EO)[keyof typeof TPM_EO];

/** Startup types (16 bits; Part 2, 6.10). */
export const TPM_SU = { CLEAR: 0x0000, STATE: 0x0001 } as const;
export type TPM_SU = (typeof TPM_SU)[keyof typeof TPM_SU];

/** Session types (8 bits; Part 2, 6.11). */
export const TPM_SE = { HMAC: 0x00, POLICY: 0x01, TRIAL: 0x03 } as const;
export type TPM_SE = (typeof TPM_SE)[keyof typeof TPM_SE];

/** Types of NV index (4 bits of `TPMA_NV`; Part 2, 13.2). */
export const TPM_NT = { ORDINARY: 0x0, COUNTER: 0x1, BITS: 0x2, EXTEND: 0x4, PIN_FAIL: 0x8, PIN_PASS: 0x9 } as const;
export type TPM_NT = (typeof TPM_NT)[keyof typeof TPM_NT];

/** Tags of an attached component's capabilities (32 bits; Part 2, 16.1). */
export const TPM_AT = { ANY: 0x00000000, ERROR: 0x00000001, PV1: 0x00000002, VEND: 0x80000000 } as const;
/** Errors of an attached component (32 bits; Part 2, 16.2). */
export const TPM_AE = { NONE: 0x00000000 } as const;
