// TPM 2.0 Library Part 2, 6.13: what a chip is and can do.
import { GetCapability, TestParms } from '../../tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_ECC_CURVE, TPM_PT } from '../../tpm/constants/index.js';
import type { CommandSender } from './sender.js';
import { ChipError } from './errors.js';

/** A chip's identity and abilities. */
export interface ChipInfo {
  /** Four characters of the vendor registry, e.g. `IFX`. */
  readonly manufacturer: string;
  readonly vendor: string;
  /** Four numbers of 16 bits, e.g. `7.85.4555.0`. */
  readonly firmware: string;
  /** Revision of the library specification, e.g. `1.38`. */
  readonly specification: string;
  /** Algorithm identifiers (`TPM_ALG`). */
  readonly algorithms: ReadonlySet<number>;
  /** Curves (`TPM_ECC_CURVE`). */
  readonly curves: ReadonlySet<number>;
  /** Sizes of RSA keys, in bits. */
  readonly rsaKeyBits: ReadonlySet<number>;
  /** Object slots that are free, at least. */
  readonly slots: number;
  readonly persistentFree: number;
  /** Whether the chip checks dictionary attacks at this moment by refusing authorizations. */
  readonly lockedOut: boolean;
}

const PER_QUERY = 254;
const RSA_KEY_BITS = [1024, 2048, 3072, 4096] as const;
const IN_LOCKOUT = 0x200;

/** Asks the chip; 10 to 12 commands. Part of a turn. */
export async function readChipInfo(sender: CommandSender): Promise<ChipInfo> {
  const fixed = await properties(sender, TPM_PT.FIXED);
  const variable = await properties(sender, TPM_PT.VAR);
  const value = (property: number): number => fixed.get(property) ?? variable.get(property) ?? 0;
  const vendorStrings = [TPM_PT.VENDOR_STRING_1, TPM_PT.VENDOR_STRING_2, TPM_PT.VENDOR_STRING_3, TPM_PT.VENDOR_STRING_4];
  return {
    manufacturer: text(value(TPM_PT.MANUFACTURER)),
    vendor: vendorStrings.map((property) => text(value(property))).join(''),
    firmware: [value(TPM_PT.FIRMWARE_VERSION_1), value(TPM_PT.FIRMWARE_VERSION_2)]
      .map((version) => `${(version >>> 16).toString()}.${(version & 0xffff).toString()}`)
      .join('.'),
    specification: (value(TPM_PT.REVISION) / 100).toFixed(2),
    algorithms: await algorithms(sender),
    curves: await curves(sender),
    rsaKeyBits: await rsaKeyBits(sender),
    slots: Math.max(value(TPM_PT.HR_TRANSIENT_MIN), value(TPM_PT.HR_TRANSIENT_AVAIL)),
    persistentFree: value(TPM_PT.HR_PERSISTENT_AVAIL),
    lockedOut: (value(TPM_PT.PERMANENT) & IN_LOCKOUT) !== 0,
  };
}

async function properties(sender: CommandSender, group: number): Promise<Map<number, number>> {
  const values = new Map<number, number>();
  for (let property = group; ;) {
    const request = { capability: TPM_CAP.TPM_PROPERTIES, property, propertyCount: PER_QUERY };
    const { capabilityData, moreData } = await sender.execute(GetCapability, request);
    const list = capabilityData.capability === TPM_CAP.TPM_PROPERTIES ? capabilityData.data : [];
    for (const tagged of list) values.set(tagged.property, tagged.value);
    const last = list.at(-1)?.property;
    if (moreData === 0 || last === undefined || last >= group + 0xff) return values;
    property = last + 1;
  }
}

async function algorithms(sender: CommandSender): Promise<Set<number>> {
  const request = { capability: TPM_CAP.ALGS, property: 0, propertyCount: PER_QUERY };
  const { capabilityData } = await sender.execute(GetCapability, request);
  return new Set(capabilityData.capability === TPM_CAP.ALGS ? capabilityData.data.map(({ alg }) => alg) : []);
}

async function curves(sender: CommandSender): Promise<Set<number>> {
  const request = { capability: TPM_CAP.ECC_CURVES, property: TPM_ECC_CURVE.NONE, propertyCount: PER_QUERY };
  const { capabilityData } = await sender.execute(GetCapability, request);
  return new Set<number>(capabilityData.capability === TPM_CAP.ECC_CURVES ? capabilityData.data : []);
}

async function rsaKeyBits(sender: CommandSender): Promise<Set<number>> {
  const sizes = new Set<number>();
  const nothing = { scheme: TPM_ALG.NULL, details: null } as const;
  const symmetric = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
  for (const keyBits of RSA_KEY_BITS) {
    try {
      const parameters = { type: TPM_ALG.RSA, parameters: { symmetric, scheme: nothing, keyBits, exponent: 0 } } as const;
      await sender.execute(TestParms, { parameters });
      sizes.add(keyBits);
    } catch (error) {
      if (!(error instanceof ChipError)) throw error;
    }
  }
  return sizes;
}

/** Up to four ASCII characters that a 32-bit property holds. */
function text(value: number): string {
  return [24, 16, 8, 0]
    .map((shift) => (value >>> shift) & 0xff)
    .filter((code) => code >= 0x20 && code < 0x7f)
    .map((code) => String.fromCharCode(code))
    .join('')
    .trimEnd();
}
