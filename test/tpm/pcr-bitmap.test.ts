import assert from 'node:assert/strict';
import fc from 'fast-check';
import { pcrBitmap, selectedPcrs } from '../../src/tpm/pcr-bitmap.js';

describe('PCR bit maps', () => {
  it('have PCR i at bit i % 8 of byte i / 8', () => {
    assert.equal(pcrBitmap([0, 4, 7, 16]).toString('hex'), '910001');
    assert.equal(pcrBitmap([9], 2).toString('hex'), '0002');
    assert.deepEqual(selectedPcrs(Buffer.from('910001', 'hex')), [0, 4, 7, 16]);
  });

  it('give back any set of PCRs, ascending', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(23)), (indices) => {
        assert.deepEqual(
          selectedPcrs(pcrBitmap(indices)),
          [...indices].sort((a, b) => a - b),
        );
      }),
    );
  });
});
