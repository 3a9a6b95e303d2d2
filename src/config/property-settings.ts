// The section `properties` of the configuration.
import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { EXIT, Failure, reasonOf } from '../failure.js';
import { UNKNOWN_TREATMENTS } from '../properties/providers/certified.js';
import { BUILT_IN_PROVIDERS } from '../properties/provider-set/guest-providers.js';
import { readPublicKey } from '../statements/signing-keys.js';
import { issuerName, properties } from '../statements/statement.js';
import { Trust, type TrustRoot } from '../statements/trust.js';

const providerName = v.pipe(v.string(), v.regex(/^[a-z][a-z0-9-]{0,31}$/, 'Expected a name of a-z, 0-9 and hyphen'));
const pattern = v.pipe(v.string(), v.regex(/^[a-z0-9._/*-]{1,128}$/, 'Expected a pattern such as os.*'));
const text = v.pipe(v.string(), v.nonEmpty());

/** The section's schema. */
export const propertySection = v.strictObject({
  providers: v.optional(v.pipe(v.array(providerName), v.minLength(1), v.maxLength(16))),
  packages: v.optional(
    v.array(
      v.strictObject({
        name: v.pipe(
          providerName,
          v.check((name) => !(BUILT_IN_PROVIDERS as readonly string[]).includes(name), 'Expected a name that no built-in provider has'),
        ),
        module: text,
        options: v.optional(v.unknown()),
        'time-limit': v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(10_000))),
      }),
    ),
  ),
  trust: v.optional(v.array(v.strictObject({ issuer: issuerName, key: text, allowed: v.pipe(v.array(pattern), v.minLength(1)) }))),
  certified: v.optional(
    v.strictObject({
      unknown: v.optional(v.picklist(UNKNOWN_TREATMENTS)),
      properties: v.optional(v.pipe(v.array(pattern), v.minLength(1))),
    }),
  ),
  /** What PCRs of guests with `platform: properties` start from. */
  host: v.optional(properties),
  'log-size': v.optional(v.pipe(v.number(), v.integer(), v.minValue(65_536), v.maxValue(67_108_864))),
});
export type PropertySection = v.InferOutput<typeof propertySection>;

/** Providers of a guest unless told otherwise. */
export const DEFAULT_PROVIDERS: readonly string[] = ['digest', 'certified', 'log'];

/** Reads the keys of `trust`. Rejects with a {@link Failure} that names the file. */
export async function readTrust({ trust = [] }: PropertySection): Promise<Trust> {
  const roots: TrustRoot[] = [];
  for (const { issuer, key: path, allowed } of trust) {
    try {
      roots.push({ issuer, key: readPublicKey(await readFile(path)), allowed });
    } catch (error) {
      throw new Failure(
        {
          code: 'bad_config',
          what: `reading the key ${path} of issuer ${issuer}`,
          why: reasonOf(error),
          hint: 'name a public key in PEM under properties.trust',
          exit: EXIT.usage,
        },
        { cause: error },
      );
    }
  }
  return new Trust(roots);
}
