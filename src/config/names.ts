// What names and words in files look like: in the configuration, policies and property statements alike.
import * as v from 'valibot';

const MAX_PROPERTIES = 64;

/** Name of a policy class. */
export const className = v.pipe(
  v.string('Expected a name'),
  v.regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'Expected the name of a class: a-z, 0-9, dot, underscore and hyphen'),
);

/** Whether this can be the name of a policy class. */
export function isClassName(name: string): boolean {
  return v.is(className, name);
}

/** Name of a property provider. */
export const providerName = v.pipe(
  v.string('Expected the name of a provider'),
  v.regex(/^[a-z][a-z0-9-]{0,31}$/, 'Expected the name of a provider: a-z, 0-9 and hyphen'),
);
/** Providers that need no package. */
export const BUILT_IN_PROVIDERS = ['digest', 'certified', 'platform', 'log'] as const;

/** Whether a package cannot have this name. */
export function isBuiltIn(provider: string): boolean {
  return (BUILT_IN_PROVIDERS as readonly string[]).includes(provider);
}

/**
 * What becomes of a measurement without a statement in force: `value` extends the fixed value `unknown`, `distinct` extends the bank's
 * hash of that value and the digest, so that two unknown things differ, and `refuse` refuses.
 */
export const UNKNOWN_TREATMENTS = ['value', 'distinct', 'refuse'] as const;
export type UnknownTreatment = (typeof UNKNOWN_TREATMENTS)[number];

/** What PCRs of the provider `platform` start from: `pcrs` of the host, PCR by PCR, or its `properties`, the same in all. */
export const PLATFORM_SOURCES = ['pcrs', 'properties'] as const;
export type PlatformSource = (typeof PLATFORM_SOURCES)[number];

/** Name of who issues property statements. */
export const issuerName = v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,256}$/, 'Expected 1 to 256 ASCII characters without blanks'));
/** Name of a property. */
export const propertyName = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9][a-z0-9._/-]{0,127}$/, 'Expected a name of a-z, 0-9, dot, underscore, slash and hyphen'),
);
/** Names of properties, with `*` for any text. */
export const propertyPattern = v.pipe(
  v.string('Expected a pattern such as os.*'),
  v.regex(/^[a-z0-9._/*-]{1,128}$/, 'Expected a pattern such as os.*'),
);
export const propertyValue = v.union([v.boolean(), v.pipe(v.number(), v.safeInteger()), v.pipe(v.string(), v.maxLength(256))]);
/** Properties by name. */
export const properties = v.pipe(
  v.record(propertyName, propertyValue),
  v.check((all) => Object.keys(all).length >= 1 && Object.keys(all).length <= MAX_PROPERTIES, 'Expected 1 to 64 properties'),
);
