// TPM 2.0 Library Part 2, 8 and 13.4: attributes (TPMA_*), as bit masks. Bit 31 is a positive number here: test with
// `(value & mask) !== 0`, and make a result of `|` or `&` that leaves the program unsigned with `>>> 0`.

/** Properties of an algorithm (32 bits; Part 2, 8.2). */
export const TPMA_ALGORITHM = {
  asymmetric: 0x001,
  symmetric: 0x002,
  hash: 0x004,
  object: 0x008,
  signing: 0x100,
  encrypting: 0x200,
  method: 0x400,
} as const;

/** Attributes of an object (32 bits; Part 2, 8.3). `sign` is `encrypt` for symmetric ciphers. */
export const TPMA_OBJECT = {
  fixedTPM: 0x00000002,
  stClear: 0x00000004,
  fixedParent: 0x00000010,
  sensitiveDataOrigin: 0x00000020,
  userWithAuth: 0x00000040,
  adminWithPolicy: 0x00000080,
  noDA: 0x00000400,
  encryptedDuplication: 0x00000800,
  restricted: 0x00010000,
  decrypt: 0x00020000,
  sign: 0x00040000,
  x509sign: 0x00080000,
} as const;

/** Attributes of a session in a command (8 bits; Part 2, 8.4). */
export const TPMA_SESSION = {
  continueSession: 0x01,
  auditExclusive: 0x02,
  auditReset: 0x04,
  decrypt: 0x20,
  encrypt: 0x40,
  audit: 0x80,
} as const;

/** Localities 0 to 4, one bit each; values from 32 on are extended localities, one number (8 bits; Part 2, 8.5). */
export const TPMA_LOCALITY = {
  TPM_LOC_ZERO: 0x01,
  TPM_LOC_ONE: 0x02,
  TPM_LOC_TWO: 0x04,
  TPM_LOC_THREE: 0x08,
  TPM_LOC_FOUR: 0x10,
  Extended: 0xe0,
} as const;

/** State that survives a reset (32 bits; Part 2, 8.6). */
export const TPMA_PERMANENT = {
  ownerAuthSet: 0x001,
  endorsementAuthSet: 0x002,
  lockoutAuthSet: 0x004,
  disableClear: 0x100,
  inLockout: 0x200,
  tpmGeneratedEPS: 0x400,
} as const;

/** State that `Startup(CLEAR)` sets (32 bits; Part 2, 8.7). */
export const TPMA_STARTUP_CLEAR = {
  phEnable: 0x00000001,
  shEnable: 0x00000002,
  ehEnable: 0x00000004,
  phEnableNV: 0x00000008,
  orderly: 0x80000000,
} as const;

/** How memory is shared (32 bits; Part 2, 8.8). */
export const TPMA_MEMORY = { sharedRAM: 0x1, sharedNV: 0x2, objectCopiedToRam: 0x4 } as const;

/** Attributes of a command (32 bits; Part 2, 8.9). `commandIndex` and `cHandles` are fields of several bits. */
export const TPMA_CC = {
  commandIndex: 0x0000ffff,
  nv: 0x00400000,
  extensive: 0x00800000,
  flushed: 0x01000000,
  cHandles: 0x0e000000,
  rHandle: 0x10000000,
  V: 0x20000000,
} as const;
/** Position of {@link TPMA_CC}`.cHandles`. */
export const TPMA_CC_CHANDLES_SHIFT = 25;

/** Compliance modes (32 bits; Part 2, 8.10). */
export const TPMA_MODES = { FIPS_140_2: 0x1 } as const;

/** X.509 key usage, as `CertifyX509` reads it (32 bits; Part 2, 8.11). */
export const TPMA_X509_KEY_USAGE = {
  decipherOnly: 0x00800000,
  encipherOnly: 0x01000000,
  cRLSign: 0x02000000,
  keyCertSign: 0x04000000,
  keyAgreement: 0x08000000,
  dataEncipherment: 0x10000000,
  keyEncipherment: 0x20000000,
  nonrepudiation: 0x40000000,
  digitalSignature: 0x80000000,
} as const;

/** State of an authenticated countdown timer (32 bits; Part 2, 8.12). */
export const TPMA_ACT = { signaled: 0x1, preserveSignaled: 0x2 } as const;

/** Attributes of an NV index (32 bits; Part 2, 13.4). `TPM_NT` is a field of four bits: see {@link nvType}. */
export const TPMA_NV = {
  PPWRITE: 0x00000001,
  OWNERWRITE: 0x00000002,
  AUTHWRITE: 0x00000004,
  POLICYWRITE: 0x00000008,
  TPM_NT: 0x000000f0,
  POLICY_DELETE: 0x00000400,
  WRITELOCKED: 0x00000800,
  WRITEALL: 0x00001000,
  WRITEDEFINE: 0x00002000,
  WRITE_STCLEAR: 0x00004000,
  GLOBALLOCK: 0x00008000,
  PPREAD: 0x00010000,
  OWNERREAD: 0x00020000,
  AUTHREAD: 0x00040000,
  POLICYREAD: 0x00080000,
  NO_DA: 0x02000000,
  ORDERLY: 0x04000000,
  CLEAR_STCLEAR: 0x08000000,
  READLOCKED: 0x10000000,
  WRITTEN: 0x20000000,
  PLATFORMCREATE: 0x40000000,
  READ_STCLEAR: 0x80000000,
} as const;
/** Position of {@link TPMA_NV}`.TPM_NT`. */
export const TPMA_NV_NT_SHIFT = 4;

/** Type of an NV index (`TPM_NT`), out of its attributes. */
export function nvType(attributes: number): number {
  return (attributes & TPMA_NV.TPM_NT) >>> TPMA_NV_NT_SHIFT;
}

/** All bits that an attribute type defines. */
export function definedBits(masks: Readonly<Record<string, number>>): number {
  return Object.values(masks).reduce((all, mask) => (all | mask) >>> 0, 0);
}
