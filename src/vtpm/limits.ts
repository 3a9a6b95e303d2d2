/** How much of everything one guest may have. Where a limit is met the guest gets the specification's code. */
export interface Limits {
  /** Transient objects and sequences (`TPM_RC_OBJECT_MEMORY`). */
  readonly loadedObjects: number;
  /** Sessions in memory (`TPM_RC_SESSION_MEMORY`). */
  readonly loadedSessions: number;
  /** Sessions in memory or saved (`TPM_RC_SESSION_HANDLES`). */
  readonly activeSessions: number;
  /** Persistent objects (`TPM_RC_NV_SPACE`). */
  readonly persistentObjects: number;
  /** NV indices (`TPM_RC_NV_SPACE`). */
  readonly nvIndices: number;
  /** Bytes of all NV data together (`TPM_RC_NV_SPACE`). */
  readonly nvBytes: number;
  /** Primary keys that are remembered (`TPM_RC_MEMORY`). */
  readonly primaryRecords: number;
}

export const defaultLimits: Limits = {
  loadedObjects: 16,
  loadedSessions: 16,
  activeSessions: 64,
  persistentObjects: 64,
  nvIndices: 256,
  nvBytes: 131072,
  primaryRecords: 1024,
};
