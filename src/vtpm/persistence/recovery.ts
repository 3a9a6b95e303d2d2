// What of a vTPM's durable state is of use without the chip that it was made with.

/** Records whose values are keys in the chip, or stand for such keys. Without that chip the TPM makes do without them, and makes new ones. */
const CHIP_BOUND = /^(persistent\/|primary\/|volatile$)/;

/** Whether the record `key` is of no use in another chip. */
export function isChipBound(key: string): boolean {
  return CHIP_BOUND.test(key);
}

/** Records without which a TPM would become a new one. */
export const ESSENTIAL_RECORDS: readonly string[] = ['hierarchies'];
