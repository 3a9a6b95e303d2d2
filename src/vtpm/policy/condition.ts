// TPM 2.0 Library Part 2, 6.8 (TPM_EO) and Part 3, 23.9 and 23.10: comparisons of PolicyNV and PolicyCounterTimer.
import { TPM_EO } from '../../tpm/constants/index.js';

const SIGN_BIT = 0x80;

/**
 * Order of signed numbers of the same size, big-endian, as the specification's reference code (Part 4, SignedCompareB) has it: a negative
 * number is less than one that is not, but two negative numbers are ordered by their bytes in reverse, so that -127 > -126. Chips do it like
 * this, and policies that were tried on them count on it.
 */
function compareSigned(a: Buffer, b: Buffer): number {
  const isNegative = (value: Buffer): boolean => ((value[0] ?? 0) & SIGN_BIT) !== 0;
  if (isNegative(a) !== isNegative(b)) return isNegative(a) ? -1 : 1;
  return isNegative(a) ? Buffer.compare(b, a) : Buffer.compare(a, b);
}

/** Whether `a operation b` holds, for operands of the same size. */
export function isConditionMet(operation: TPM_EO, a: Buffer, b: Buffer): boolean {
  switch (operation) {
    case TPM_EO.EQ:
      return Buffer.compare(a, b) === 0;
    case TPM_EO.NEQ:
      return Buffer.compare(a, b) !== 0;
    case TPM_EO.SIGNED_GT:
      return compareSigned(a, b) > 0;
    case TPM_EO.UNSIGNED_GT:
      return Buffer.compare(a, b) > 0;
    case TPM_EO.SIGNED_LT:
      return compareSigned(a, b) < 0;
    case TPM_EO.UNSIGNED_LT:
      return Buffer.compare(a, b) < 0;
    case TPM_EO.SIGNED_GE:
      return compareSigned(a, b) >= 0;
    case TPM_EO.UNSIGNED_GE:
      return Buffer.compare(a, b) >= 0;
    case TPM_EO.SIGNED_LE:
      return compareSigned(a, b) <= 0;
    case TPM_EO.UNSIGNED_LE:
      return Buffer.compare(a, b) <= 0;
    case TPM_EO.BITSET:
      return b.every((bits, i) => ((a[i] ?? 0) & bits) === bits);
    case TPM_EO.BITCLEAR:
      return b.every((bits, i) => ((a[i] ?? 0) & bits) === 0);
  }
}

/** Bytes of an operand that are compared: as many as `operandB` has. */
export function operandAt(data: Buffer, offset: number, operandB: Buffer): Buffer {
  return data.subarray(offset, offset + operandB.length);
}
