// How much of everything one guest may have.
import * as v from 'valibot';

/** Where a limit is met the guest gets the specification's code. */
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

/** A limit in files: its name, what it is unless told otherwise, and between what it can be. */
interface LimitSetting {
  readonly field: keyof Limits;
  readonly normal: number;
  /** An operating system's TPM driver and tools work with this. */
  readonly least: number;
  /** A guest that takes all of it does not hurt the host. */
  readonly most: number;
  /** What it counts, for people. */
  readonly counts: string;
}

/** All limits by their names in files. */
export const LIMIT_SETTINGS = {
  'loaded-objects': { field: 'loadedObjects', normal: 16, least: 3, most: 64, counts: 'transient objects and sequences' },
  'loaded-sessions': { field: 'loadedSessions', normal: 16, least: 3, most: 64, counts: 'loaded sessions' },
  'active-sessions': { field: 'activeSessions', normal: 64, least: 3, most: 256, counts: 'sessions, loaded or saved' },
  'persistent-objects': { field: 'persistentObjects', normal: 64, least: 3, most: 1024, counts: 'persistent objects' },
  'nv-indices': { field: 'nvIndices', normal: 256, least: 8, most: 4096, counts: 'NV indices' },
  'nv-bytes': { field: 'nvBytes', normal: 131_072, least: 8192, most: 1_048_576, counts: 'bytes of NV data' },
  'primary-records': { field: 'primaryRecords', normal: 1024, least: 16, most: 16_384, counts: 'primary keys that are remembered' },
} as const satisfies Readonly<Record<string, LimitSetting>>;
export type LimitName = keyof typeof LIMIT_SETTINGS;
export const LIMIT_NAMES = Object.keys(LIMIT_SETTINGS) as LimitName[];

const limitSchema = (name: LimitName) => {
  const { least, most } = LIMIT_SETTINGS[name];
  const expected = `Expected a number from ${least.toString()} to ${most.toString()}`;
  return v.optional(v.pipe(v.number(expected), v.integer(expected), v.minValue(least, expected), v.maxValue(most, expected)));
};
type LimitEntries = Record<LimitName, ReturnType<typeof limitSchema>>;

/** The section `limits` of a policy and of the configuration. */
export const limitSection = v.strictObject(Object.fromEntries(LIMIT_NAMES.map((name) => [name, limitSchema(name)])) as LimitEntries);
export type LimitSection = Partial<Record<LimitName, number | undefined>>;

/** All limits: what the first section that names one says, else what is normal. */
export function limitsOf(...sections: readonly LimitSection[]): Limits {
  const value = (name: LimitName): number =>
    sections.map((section) => section[name]).find((each) => each !== undefined) ?? LIMIT_SETTINGS[name].normal;
  return Object.fromEntries(LIMIT_NAMES.map((name) => [LIMIT_SETTINGS[name].field, value(name)])) as unknown as Limits;
}

export const defaultLimits: Limits = limitsOf();
