// The section `properties` of the configuration.
import * as v from 'valibot';
import { isBuiltIn, issuerName, properties, propertyPattern, providerName, UNKNOWN_TREATMENTS } from './names.js';

const patterns = v.pipe(v.array(propertyPattern), v.minLength(1));
const text = v.pipe(v.string(), v.nonEmpty());

/** The section's schema. */
export const propertySection = v.strictObject({
  providers: v.optional(v.pipe(v.array(providerName), v.minLength(1), v.maxLength(16))),
  packages: v.optional(
    v.array(
      v.strictObject({
        name: v.pipe(
          providerName,
          v.check((name) => !isBuiltIn(name), 'Expected a name that no built-in provider has'),
        ),
        module: text,
        options: v.optional(v.unknown()),
        'time-limit': v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(10_000))),
      }),
    ),
  ),
  trust: v.optional(v.array(v.strictObject({ issuer: issuerName, key: text, allowed: patterns }))),
  certified: v.optional(v.strictObject({ unknown: v.optional(v.picklist(UNKNOWN_TREATMENTS)), properties: v.optional(patterns) })),
  /** What PCRs of guests with `platform: properties` start from. */
  host: v.optional(properties),
  'log-size': v.optional(v.pipe(v.number(), v.integer(), v.minValue(65_536), v.maxValue(67_108_864))),
});
export type PropertySection = v.InferOutput<typeof propertySection>;

/** Providers of a guest unless told otherwise. */
export const DEFAULT_PROVIDERS: readonly string[] = ['digest', 'certified', 'log'];
