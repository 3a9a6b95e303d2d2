// CMAC: the examples of NIST SP 800-38B (as in RFC 4493 for AES-128), and pieces of any size.
import assert from 'node:assert/strict';
import { Cmac, cmac } from '../../src/crypto/cmac.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';

const { AES, TDES } = TPM_ALG;
const hex = (text: string): Buffer => Buffer.from(text, 'hex');
const message = hex(
  '6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710',
);
const aes128 = hex('2b7e151628aed2a6abf7158809cf4f3c');
const aes256 = hex('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4');
const tdes = hex('8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5');
/** Both subkeys of it are reduced; the values are what OpenSSL gives for K1 K2 K1. */
const twoKeyTdes = hex('322be98c224d995bce8eb3f1c1ce8d01');

describe('CMAC', () => {
  for (const [name, algorithm, key, size, expected] of [
    ['AES-128', AES, aes128, 0, 'bb1d6929e95937287fa37d129b756746'],
    ['AES-128', AES, aes128, 16, '070a16b46b4d4144f79bdd9dd04a287c'],
    ['AES-128', AES, aes128, 40, 'dfa66747de9ae63030ca32611497c827'],
    ['AES-128', AES, aes128, 64, '51f0bebf7e3b9d92fc49741779363cfe'],
    ['AES-256', AES, aes256, 0, '028962f61b7bf89efc6b551f4667d983'],
    ['AES-256', AES, aes256, 40, 'aaf3d8f1de5640c232f5b169b9c911e6'],
    ['TDES', TDES, tdes, 0, 'b7a688e122ffaf95'],
    ['TDES', TDES, tdes, 8, '8e8f293136283797'],
    ['TDES', TDES, tdes, 20, '743ddbe0ce2dc2ed'],
    ['TDES', TDES, tdes, 32, '33e6b1092400eae5'],
    ['two-key TDES', TDES, twoKeyTdes, 0, 'ee61da17a6729a21'],
    ['two-key TDES', TDES, twoKeyTdes, 8, '33748a7036345fb5'],
    ['two-key TDES', TDES, twoKeyTdes, 20, '34e077215f9097ee'],
  ] as const) {
    it(`${name}, ${size.toString()} bytes`, () => {
      const data = message.subarray(0, size);
      assert.equal(cmac(algorithm, key, data).toString('hex'), expected);
      for (const step of [1, 7, 16, 17]) {
        let state = new Cmac(algorithm, key);
        for (let at = 0; at < size; at += step) {
          state.update(data.subarray(at, Math.min(at + step, size)));
          state = new Cmac(algorithm, key).load(state.save());
        }
        assert.equal(state.digest().toString('hex'), expected);
      }
    });
  }
});
