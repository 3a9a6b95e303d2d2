// The daemon's settings: flag before environment before file before default.
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import * as v from 'valibot';
import { reasonOf, systemCode } from '../failure.js';
import type { LogFormat, LogLevel, LogOptions } from '../logger.js';
import { limitSection, type LimitSection } from './limits.js';
import { className } from './names.js';
import { parseSettings, settingsFailure, type SettingsFile } from './settings-file.js';
import { propertySection, type PropertySection } from './property-section.js';

const DEFAULT_CONFIG_FILE = '/etc/tpmux/tpmux.yaml';
const DEFAULTS = {
  tcti: 'device:/dev/tpm0',
  stateDir: '/var/lib/tpmux',
  runDir: '/run/tpmux',
  policyDirectory: '/etc/tpmux/policies',
} as const;

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const satisfies readonly LogLevel[];
export const LOG_FORMATS = ['text', 'json'] as const satisfies readonly LogFormat[];

/** Banks of the chip that a policy can be about. */
export const PCR_BANKS = ['sha1', 'sha256', 'sha384', 'sha512'] as const;

const seconds = v.pipe(v.number(), v.minValue(0.1), v.maxValue(3600));
const count = (min: number, max: number) => v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));
const text = v.pipe(v.string(), v.nonEmpty());

/** The configuration file. */
const configFile = v.strictObject({
  tcti: v.optional(text),
  'embedded-tpm': v.optional(v.boolean()),
  'state-dir': v.optional(text),
  'run-dir': v.optional(text),
  'host-root-handle': v.optional(count(0x81000000, 0x817fffff)),
  hardware: v.optional(
    v.strictObject({
      'seal-to': v.optional(
        v.union(
          [
            v.strictObject({ bank: v.picklist(PCR_BANKS), pcrs: v.pipe(v.array(count(0, 23)), v.minLength(1)) }),
            v.strictObject({ authority: text }),
          ],
          'Expected {bank, pcrs} or {authority}',
        ),
      ),
      'policy-signature': v.optional(text),
      'owner-auth-file': v.optional(text),
    }),
  ),
  rollback: v.optional(
    v.strictObject({
      'when-detected': v.optional(v.picklist(['refuse', 'allow'])),
      'counter-index': v.optional(count(0x01800000, 0x01bffff0)),
      interval: v.optional(v.pipe(v.number(), v.minValue(1), v.maxValue(720))),
    }),
  ),
  properties: v.optional(propertySection),
  policies: v.optional(
    v.strictObject({
      directory: v.optional(text),
      default: v.optional(className),
    }),
  ),
  limits: v.optional(limitSection),
  log: v.optional(v.strictObject({ level: v.optional(v.picklist(LOG_LEVELS)), format: v.optional(v.picklist(LOG_FORMATS)) })),
  connections: v.optional(
    v.strictObject({
      'max-per-guest': v.optional(count(1, 10_000)),
      'partial-command-timeout': v.optional(seconds),
      'unread-response-timeout': v.optional(seconds),
    }),
  ),
  'stop-timeout': v.optional(seconds),
});
type ConfigFile = v.InferOutput<typeof configFile>;

/** `hardware.seal-to`: these PCRs of the host, or what the holder of the key in this file signs. */
type SealToSetting = { readonly bank: (typeof PCR_BANKS)[number]; readonly pcrs: readonly number[] } | { readonly authority: string };

/** All settings of a daemon. Times are in milliseconds. */
export interface Config extends LogOptions {
  /** TCTI string of the chip; ignored with {@link embeddedTpm}. */
  readonly tcti: string;
  /** Run a swtpm of our own in place of a chip. */
  readonly embeddedTpm: boolean;
  readonly stateDir: string;
  readonly runDir: string;
  /** Persistent handle of the host root; undefined for the default. */
  readonly hostRootHandle: number | undefined;
  /** Whom the state keys of guests are sealed to; undefined: nobody in particular. */
  readonly sealTo: SealToSetting | undefined;
  /** File of the policies that the authority signed. */
  readonly policySignature: string | undefined;
  /** File with the authorization value of the chip's owner hierarchy; undefined: it is empty. */
  readonly ownerAuthFile: string | undefined;
  /** What happens when an older copy of the state is found. */
  readonly whenRollback: 'refuse' | 'allow';
  /** First NV index that is tried for the counter; undefined for the default. */
  readonly counterIndex: number | undefined;
  /** How often the counter is incremented while guests change their state. */
  readonly counterInterval: number;
  /** Property providers, packages and trusted issuers. */
  readonly properties: PropertySection;
  /** Directory of policy classes. */
  readonly policyDirectory: string;
  /** Class of guests that are created without a policy. */
  readonly defaultPolicy: string | undefined;
  /** Limits of guests whose policies say nothing of them. */
  readonly limits: LimitSection;
  readonly maxConnections: number;
  readonly partialFrameTimeout: number;
  readonly unreadResponseTimeout: number;
  /** How long a running command may take when a guest or the daemon stops. */
  readonly stopTimeout: number;
}

/** What the command line can set. */
export interface ConfigFlags {
  readonly config?: string | undefined;
  readonly tcti?: string | undefined;
  readonly embeddedTpm?: boolean | undefined;
  readonly stateDir?: string | undefined;
  readonly runDir?: string | undefined;
  readonly logLevel?: Config['logLevel'] | undefined;
  readonly logFormat?: Config['logFormat'] | undefined;
}

/**
 * Puts the settings together. The default file may be missing, one that is named may not.
 * Rejects with a {@link Failure} that names file, place and what was expected.
 */
export async function loadConfig(flags: ConfigFlags, environment: NodeJS.ProcessEnv): Promise<Config> {
  const named = flags.config ?? environment['TPMUX_CONFIG'];
  const file = await readConfigFile(named ?? DEFAULT_CONFIG_FILE, named !== undefined);
  const connections = file.connections ?? {};
  // A flag that names a chip beats a file that asks for the embedded one, and the other way round.
  const tcti = flags.tcti ?? (flags.embeddedTpm === true ? undefined : environment['TPMUX_TCTI']);
  return {
    tcti: tcti ?? file.tcti ?? DEFAULTS.tcti,
    embeddedTpm: flags.embeddedTpm ?? (tcti === undefined && file['embedded-tpm'] === true),
    stateDir: resolve(flags.stateDir ?? environment['TPMUX_STATE_DIR'] ?? file['state-dir'] ?? DEFAULTS.stateDir),
    runDir: resolve(flags.runDir ?? environment['TPMUX_RUN_DIR'] ?? file['run-dir'] ?? DEFAULTS.runDir),
    hostRootHandle: file['host-root-handle'],
    sealTo: file.hardware?.['seal-to'],
    policySignature: file.hardware?.['policy-signature'],
    ownerAuthFile: file.hardware?.['owner-auth-file'],
    whenRollback: file.rollback?.['when-detected'] ?? 'refuse',
    counterIndex: file.rollback?.['counter-index'],
    counterInterval: (file.rollback?.interval ?? 6) * 3_600_000,
    properties: file.properties ?? {},
    policyDirectory: resolve(file.policies?.directory ?? DEFAULTS.policyDirectory),
    defaultPolicy: file.policies?.default,
    limits: file.limits ?? {},
    logLevel: flags.logLevel ?? file.log?.level ?? 'info',
    logFormat: flags.logFormat ?? file.log?.format ?? 'text',
    maxConnections: connections['max-per-guest'] ?? 32,
    partialFrameTimeout: (connections['partial-command-timeout'] ?? 5) * 1000,
    unreadResponseTimeout: (connections['unread-response-timeout'] ?? 30) * 1000,
    stopTimeout: (file['stop-timeout'] ?? 60) * 1000,
  };
}

async function readConfigFile(path: string, required: boolean): Promise<ConfigFile> {
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    if (!required && systemCode(error) === 'ENOENT') return {};
    throw settingsFailure({ ...configSource(path), hint: 'name a file that can be read' }, reasonOf(error));
  }
  return parseConfig(path, content);
}

/** Reads a configuration: YAML, of which JSON is a part. `path` is for messages only. */
export function parseConfig(path: string, content: string): ConfigFile {
  return parseSettings(configFile, configSource(path), content);
}

function configSource(path: string): SettingsFile {
  return {
    code: 'bad_config',
    what: `reading the configuration ${path}`,
    hint: 'the settings are described in docs/configuration.md',
  };
}
