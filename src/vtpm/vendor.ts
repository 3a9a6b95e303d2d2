// TPM 2.0 Library Part 2, 6.13: what the TPM says of its maker (TPM_PT_MANUFACTURER and following).
import { readFileSync } from 'node:fs';
import * as v from 'valibot';

/** TPM_PT_MANUFACTURER: four characters. */
export const MANUFACTURER = 'TPMX';
/** TPM_PT_VENDOR_STRING_1 to 4, up to 16 characters. */
export const VENDOR_STRING = 'tpmux';
/** TPM_PT_VENDOR_TPM_TYPE. */
export const VENDOR_TPM_TYPE = 1;
/** TPM_PT_FIRMWARE_VERSION_1 and _2 as one number: major and minor version of this program, then patch level. */
export const FIRMWARE_VERSION = readVersion();

function readVersion(): bigint {
  const manifest = v.object({ version: v.pipe(v.string(), v.regex(/^\d+\.\d+\.\d+/)) });
  const { version } = v.parse(manifest, JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')));
  const [major = 0, minor = 0, patch = 0] = version.split(/[.+-]/).map(Number);
  return (BigInt(major) << 48n) | (BigInt(minor) << 32n) | BigInt(patch);
}
