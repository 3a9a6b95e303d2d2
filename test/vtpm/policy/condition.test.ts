import assert from 'node:assert/strict';
import fc from 'fast-check';
import { TPM_EO } from '../../../src/tpm/constants/index.js';
import { isConditionMet } from '../../../src/vtpm/policy/condition.js';

function bytes(value: bigint): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64BE(BigInt.asUintN(64, value));
  return buffer;
}

const relations: readonly [TPM_EO, TPM_EO, (a: bigint, b: bigint) => boolean][] = [
  [TPM_EO.UNSIGNED_GT, TPM_EO.SIGNED_GT, (a, b) => a > b],
  [TPM_EO.UNSIGNED_LT, TPM_EO.SIGNED_LT, (a, b) => a < b],
  [TPM_EO.UNSIGNED_GE, TPM_EO.SIGNED_GE, (a, b) => a >= b],
  [TPM_EO.UNSIGNED_LE, TPM_EO.SIGNED_LE, (a, b) => a <= b],
];
// Of two negative numbers the one with the greater bytes counts as less.
const negative = (n: bigint): boolean => BigInt.asIntN(64, n) < 0n;
const number = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const pair = fc.oneof(
  fc.tuple(number, number),
  number.map((n): [bigint, bigint] => [n, n]),
);

describe('conditions of PolicyNV and PolicyCounterTimer', () => {
  it('order numbers, signed and unsigned', () => {
    fc.assert(
      fc.property(pair, ([a, b]) => {
        for (const [unsigned, signed, holds] of relations) {
          assert.equal(isConditionMet(unsigned, bytes(a), bytes(b)), holds(a, b));
          const [left, right] = negative(a) && negative(b) ? [b, a] : [BigInt.asIntN(64, a), BigInt.asIntN(64, b)];
          assert.equal(isConditionMet(signed, bytes(a), bytes(b)), holds(left, right));
        }
      }),
    );
  });

  it('compare numbers and bits', () => {
    fc.assert(
      fc.property(pair, ([a, b]) => {
        assert.equal(isConditionMet(TPM_EO.EQ, bytes(a), bytes(b)), a === b);
        assert.equal(isConditionMet(TPM_EO.NEQ, bytes(a), bytes(b)), a !== b);
        assert.equal(isConditionMet(TPM_EO.BITSET, bytes(a), bytes(b)), (a & b) === b);
        assert.equal(isConditionMet(TPM_EO.BITCLEAR, bytes(a), bytes(b)), (a & b) === 0n);
      }),
    );
  });

  it('hold for operands of no bytes where equality is enough', () => {
    const none = Buffer.alloc(0);
    const met = Object.entries(TPM_EO).filter(([, operation]) => isConditionMet(operation, none, none));
    assert.deepEqual(
      met.map(([name]) => name),
      ['EQ', 'SIGNED_GE', 'UNSIGNED_GE', 'SIGNED_LE', 'UNSIGNED_LE', 'BITSET', 'BITCLEAR'],
    );
  });
});
