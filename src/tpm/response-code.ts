// TPM 2.0 Library Part 2, 6.6: TPM_RC, and where in a command an error lies.

/** Response codes (Part 2, 6.6.3). Format-one codes (`FMT1`) can carry a handle, parameter or session number. */
export const TPM_RC = {
  SUCCESS: 0x000,
  BAD_TAG: 0x01e,
  INITIALIZE: 0x100,
  FAILURE: 0x101,
  SEQUENCE: 0x103,
  PRIVATE: 0x10b,
  HMAC: 0x119,
  DISABLED: 0x120,
  EXCLUSIVE: 0x121,
  AUTH_TYPE: 0x124,
  AUTH_MISSING: 0x125,
  POLICY: 0x126,
  PCR: 0x127,
  PCR_CHANGED: 0x128,
  UPGRADE: 0x12d,
  TOO_MANY_CONTEXTS: 0x12e,
  AUTH_UNAVAILABLE: 0x12f,
  REBOOT: 0x130,
  UNBALANCED: 0x131,
  COMMAND_SIZE: 0x142,
  COMMAND_CODE: 0x143,
  AUTHSIZE: 0x144,
  AUTH_CONTEXT: 0x145,
  NV_RANGE: 0x146,
  NV_SIZE: 0x147,
  NV_LOCKED: 0x148,
  NV_AUTHORIZATION: 0x149,
  NV_UNINITIALIZED: 0x14a,
  NV_SPACE: 0x14b,
  NV_DEFINED: 0x14c,
  BAD_CONTEXT: 0x150,
  CPHASH: 0x151,
  PARENT: 0x152,
  NEEDS_TEST: 0x153,
  NO_RESULT: 0x154,
  SENSITIVE: 0x155,
  ASYMMETRIC: 0x081,
  ATTRIBUTES: 0x082,
  HASH: 0x083,
  VALUE: 0x084,
  HIERARCHY: 0x085,
  KEY_SIZE: 0x087,
  MGF: 0x088,
  MODE: 0x089,
  TYPE: 0x08a,
  HANDLE: 0x08b,
  KDF: 0x08c,
  RANGE: 0x08d,
  AUTH_FAIL: 0x08e,
  NONCE: 0x08f,
  PP: 0x090,
  SCHEME: 0x092,
  SIZE: 0x095,
  SYMMETRIC: 0x096,
  TAG: 0x097,
  SELECTOR: 0x098,
  INSUFFICIENT: 0x09a,
  SIGNATURE: 0x09b,
  KEY: 0x09c,
  POLICY_FAIL: 0x09d,
  INTEGRITY: 0x09f,
  TICKET: 0x0a0,
  RESERVED_BITS: 0x0a1,
  BAD_AUTH: 0x0a2,
  EXPIRED: 0x0a3,
  POLICY_CC: 0x0a4,
  BINDING: 0x0a5,
  CURVE: 0x0a6,
  ECC_POINT: 0x0a7,
  CONTEXT_GAP: 0x901,
  OBJECT_MEMORY: 0x902,
  SESSION_MEMORY: 0x903,
  MEMORY: 0x904,
  SESSION_HANDLES: 0x905,
  OBJECT_HANDLES: 0x906,
  LOCALITY: 0x907,
  YIELDED: 0x908,
  CANCELED: 0x909,
  TESTING: 0x90a,
  REFERENCE_H0: 0x910,
  REFERENCE_S0: 0x918,
  NV_RATE: 0x920,
  LOCKOUT: 0x921,
  RETRY: 0x922,
  NV_UNAVAILABLE: 0x923,
} as const;

const RC_FMT1 = 0x080;
const RC_P = 0x040;
const RC_S = 0x800;

/**
 * The answer to a command that did not succeed: a `TPM_RC` and nothing else. It is an answer, not a bug,
 * so it carries no stack trace (building one costs ten times as much as the rest).
 */
export class TpmError extends Error {
  /** The complete 32-bit response code, number included where one was given. */
  readonly code: number;

  constructor(code: number) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super();
    Error.stackTraceLimit = limit;
    this.code = code >>> 0;
  }

  override get message(): string {
    return describeResponseCode(this.code);
  }
}

/** Adds parameter number `index` (1-based) to a format-one code that has no number yet; others pass unchanged. */
export function atParameter(code: number, index: number): number {
  return numbered(code) ? code : (code | RC_P | (index << 8)) >>> 0;
}

/** Adds handle number `index` (1-based) to a format-one code that has no number yet; others pass unchanged. */
export function atHandle(code: number, index: number): number {
  return numbered(code) ? code : (code | (index << 8)) >>> 0;
}

/** Adds session number `index` (1-based) to a format-one code that has no number yet; others pass unchanged. */
export function atSession(code: number, index: number): number {
  return numbered(code) ? code : (code | RC_S | (index << 8)) >>> 0;
}

function numbered(code: number): boolean {
  return (code & RC_FMT1) === 0 || (code & 0xf40) !== 0;
}

/** The code without its handle, parameter or session number. */
export function baseCode(code: number): number {
  return (code & RC_FMT1) !== 0 ? code & 0xbf : code;
}

const names = new Map<number, string>(Object.entries(TPM_RC).map(([name, code]) => [code, name]));

/** A response code in words, e.g. `TPM_RC_INTEGRITY (0x1df, parameter 1)`. */
export function describeResponseCode(code: number): string {
  const name = names.get(baseCode(code));
  const hex = `0x${code.toString(16).padStart(3, '0')}`;
  return `${name === undefined ? 'TPM_RC' : `TPM_RC_${name}`} (${hex}${describePlace(code)})`;
}

function describePlace(code: number): string {
  if ((code & RC_FMT1) === 0 || (code & 0xf40) === 0) return '';
  const index = (code >> 8) & 0xf;
  if ((code & RC_P) !== 0) return `, parameter ${index.toString()}`;
  return (code & RC_S) !== 0 ? `, session ${(index & 7).toString()}` : `, handle ${index.toString()}`;
}
