import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { RandomSource } from '../../src/crypto/random.js';
import { cryptBlocks } from '../../src/crypto/symmetric.js';
import { isTdesKey, setOddParity } from '../../src/crypto/tdes-key.js';
import { cipherBlockSize } from '../../src/tpm/block-cipher.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const failsWith =
  (code: number) =>
  (error: unknown): boolean =>
    error instanceof TpmError && error.code === code;

const ciphers = [
  [TPM_ALG.AES, 16],
  [TPM_ALG.AES, 24],
  [TPM_ALG.AES, 32],
  [TPM_ALG.CAMELLIA, 16],
  [TPM_ALG.CAMELLIA, 32],
  [TPM_ALG.TDES, 16],
  [TPM_ALG.TDES, 24],
] as const;
const modes = [TPM_ALG.CFB, TPM_ALG.CTR, TPM_ALG.OFB, TPM_ALG.CBC, TPM_ALG.ECB];

describe('cryptBlocks', () => {
  it('gives the AES values of SP 800-38A', () => {
    const key = hex('2b7e151628aed2a6abf7158809cf4f3c');
    const data = hex('6bc1bee22e409f96e93d7e117393172a');
    const iv = hex('000102030405060708090a0b0c0d0e0f');
    const encrypt = (mode: number, start: Buffer): string =>
      cryptBlocks({ direction: 'encrypt', algorithm: TPM_ALG.AES, mode, key, iv: start, data }).data.toString('hex');
    assert.equal(encrypt(TPM_ALG.CFB, iv), '3b3fd92eb72dad20333449f8e83cfb4a');
    assert.equal(encrypt(TPM_ALG.OFB, iv), '3b3fd92eb72dad20333449f8e83cfb4a');
    assert.equal(encrypt(TPM_ALG.CBC, iv), '7649abac8119b246cee98e9b12e9197d');
    assert.equal(encrypt(TPM_ALG.ECB, Buffer.alloc(0)), '3ad77bb40d7a3660a89ecaf32466ef97');
    assert.equal(encrypt(TPM_ALG.CTR, hex('f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff')), '874d6191b620e3261bef6864990db6ce');
  });

  for (const [algorithm, keyBytes] of ciphers) {
    it(`decrypts in pieces what it encrypted at once: algorithm ${algorithm.toString()}, ${(keyBytes * 8).toString()} bits`, () => {
      const block = cipherBlockSize(algorithm);
      fc.assert(
        fc.property(fc.constantFrom(...modes), fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 5 }), (mode, pieces) => {
          const key = randomBytes(keyBytes);
          const start = mode === TPM_ALG.ECB ? Buffer.alloc(0) : Buffer.alloc(block, 0xff);
          const data = randomBytes(block * pieces.reduce((sum, n) => sum + n, 0));
          const whole = cryptBlocks({ direction: 'encrypt', algorithm, mode, key, iv: start, data });
          let iv: Buffer = start;
          let encryptIv: Buffer = start;
          let at = 0;
          for (const blocks of pieces) {
            const cut = (bytes: Buffer): Buffer => bytes.subarray(at, at + blocks * block);
            const encrypted = cryptBlocks({ direction: 'encrypt', algorithm, mode, key, iv: encryptIv, data: cut(data) });
            assert.deepEqual(encrypted.data, cut(whole.data));
            encryptIv = encrypted.iv;
            const decrypted = cryptBlocks({ direction: 'decrypt', algorithm, mode, key, iv, data: cut(whole.data) });
            assert.deepEqual(decrypted.data, cut(data));
            iv = decrypted.iv;
            at += blocks * block;
          }
          assert.deepEqual(iv, whole.iv);
          assert.deepEqual(encryptIv, whole.iv);
        }),
        { numRuns: 40 },
      );
    });
  }

  it('takes any length in the stream modes and whole blocks only in CBC and ECB', () => {
    const key = randomBytes(16);
    const iv = randomBytes(16);
    for (const mode of [TPM_ALG.CFB, TPM_ALG.CTR, TPM_ALG.OFB]) {
      const data = randomBytes(21);
      const encrypted = cryptBlocks({ direction: 'encrypt', algorithm: TPM_ALG.AES, mode, key, iv, data });
      assert.equal(encrypted.data.length, 21);
      assert.equal(encrypted.iv.length, 16);
      assert.deepEqual(cryptBlocks({ direction: 'decrypt', algorithm: TPM_ALG.AES, mode, key, iv, data: encrypted.data }).data, data);
    }
    const odd = { direction: 'encrypt', algorithm: TPM_ALG.AES, key, data: randomBytes(21) } as const;
    assert.throws(() => cryptBlocks({ ...odd, mode: TPM_ALG.CBC, iv }), failsWith(TPM_RC.SIZE));
    assert.throws(() => cryptBlocks({ ...odd, mode: TPM_ALG.ECB, iv: Buffer.alloc(0) }), failsWith(TPM_RC.SIZE));
    assert.throws(() => cryptBlocks({ ...odd, mode: TPM_ALG.CFB, iv: randomBytes(8) }), failsWith(TPM_RC.SIZE));
    assert.throws(() => cryptBlocks({ ...odd, mode: TPM_ALG.CMAC, iv }), failsWith(TPM_RC.MODE));
    assert.throws(() => cryptBlocks({ ...odd, key: randomBytes(17), mode: TPM_ALG.CFB, iv }), failsWith(TPM_RC.KEY_SIZE));
  });
});

describe('TDES keys', () => {
  it('have odd parity', () => {
    const key = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    setOddParity(key);
    for (const byte of key) assert.equal(byte.toString(2).replaceAll('0', '').length % 2, 1);
  });

  it('are refused if a part is weak or neighbors are equal', () => {
    const good = hex('0123456789abcdef 1133557799bbddff');
    assert.ok(isTdesKey(good));
    assert.ok(!isTdesKey(good.subarray(0, 15)));
    assert.ok(!isTdesKey(Buffer.concat([good.subarray(0, 8), good.subarray(0, 8)])));
    for (const weak of ['0101010101010101', 'fefefefefefefefe', 'e001e001f101f101', '01fe1fe001fe0ef1', 'e01f1fe0f10e0ef1']) {
      assert.ok(!isTdesKey(Buffer.concat([good, hex(weak)])), weak);
    }
  });
});

describe('RandomSource', () => {
  it('yields as many bytes as asked for, never the same', () => {
    const source = new RandomSource();
    const seen = new Set<string>();
    for (const size of [16, 16, 64, 65, 200]) {
      const bytes = source.randomBytes(size);
      assert.equal(bytes.length, size);
      seen.add(bytes.toString('hex'));
      source.stir(Buffer.from('same'));
    }
    assert.equal(seen.size, 5);
    assert.equal(source.randomBytes(0).length, 0);
  });
});
