import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { HASH_ALGORITHMS, TPM_ALG } from '../../src/tpm/constants/index.js';
import { hashName, hmac } from '../../src/tpm/hash.js';
import { KDFa, KDFe, MGF1, xorObfuscate } from '../../src/tpm/kdf.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';

function opensslKdf(name: string, bytes: number, options: Record<string, string>): Buffer {
  const args = Object.entries(options).flatMap(([key, value]) => ['-kdfopt', `${key}:${value}`]);
  const out = execFileSync('openssl', ['kdf', '-binary', '-keylen', bytes.toString(), ...args, name]);
  return Buffer.from(out);
}

const key = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const u = Buffer.from('context U');
const v = Buffer.from('and V');

describe('KDFa', () => {
  for (const alg of HASH_ALGORITHMS) {
    it(`is SP 800-108 in counter mode, as OpenSSL has it, with ${hashName(alg)}`, () => {
      for (const bytes of [16, 20, 32, 48, 100]) {
        const expected = opensslKdf('KBKDF', bytes, {
          mac: 'HMAC',
          mode: 'COUNTER',
          digest: hashName(alg),
          hexkey: key.toString('hex'),
          hexsalt: Buffer.from('ATH').toString('hex'),
          hexinfo: Buffer.concat([u, v]).toString('hex'),
        });
        assert.deepEqual(KDFa(alg, key, 'ATH', u, v, bytes * 8), expected);
      }
    });
  }

  it('adds no second zero byte to a label that has one', () => {
    assert.deepEqual(KDFa(TPM_ALG.SHA256, key, Buffer.from('CFB\0'), u, v, 256), KDFa(TPM_ALG.SHA256, key, 'CFB', u, v, 256));
  });

  it('clears the excess bits of the first byte', () => {
    const bits = KDFa(TPM_ALG.SHA256, key, 'X', u, v, 521);
    assert.equal(bits.length, 66);
    assert.ok((bits[0] ?? 2) <= 1);
  });

  it('refuses a hash that is not served', () => {
    assert.throws(
      () => KDFa(TPM_ALG.SM3_256, key, 'X', u, v, 8),
      (error) => error instanceof TpmError && error.code === TPM_RC.HASH,
    );
  });
});

describe('KDFe', () => {
  for (const alg of HASH_ALGORITHMS) {
    it(`is the single-step KDF of SP 800-56A, as OpenSSL has it, with ${hashName(alg)}`, () => {
      for (const bytes of [16, 32, 64, 90]) {
        const expected = opensslKdf('SSKDF', bytes, {
          digest: hashName(alg),
          hexkey: key.toString('hex'),
          hexinfo: Buffer.concat([Buffer.from('DUPLICATE\0'), u, v]).toString('hex'),
        });
        assert.deepEqual(KDFe(alg, key, 'DUPLICATE', u, v, bytes * 8), expected);
      }
    });
  }
});

describe('xorObfuscate', () => {
  it('is its own inverse', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ maxLength: 40 }), (data, secret) => {
        const bytes = Buffer.from(data);
        xorObfuscate(TPM_ALG.SHA1, secret, u, v, bytes);
        xorObfuscate(TPM_ALG.SHA1, secret, u, v, bytes);
        assert.deepEqual(bytes, Buffer.from(data));
      }),
    );
  });

  it('uses one KDFa over the length of the data', () => {
    const bytes = Buffer.alloc(50);
    xorObfuscate(TPM_ALG.SHA256, key, u, v, bytes);
    assert.deepEqual(bytes, KDFa(TPM_ALG.SHA256, key, 'XOR', u, v, 400));
  });
});

describe('hmac and MGF1', () => {
  it('give the RFC 4231 value', () => {
    const mac = hmac(TPM_ALG.SHA256, Buffer.from('Jefe'), Buffer.from('what do ya want '), Buffer.from('for nothing?'));
    assert.equal(mac.toString('hex'), '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843');
  });

  it('give a known MGF1 value', () => {
    assert.equal(MGF1(TPM_ALG.SHA1, Buffer.from('foo'), 3).toString('hex'), '1ac907');
    assert.equal(MGF1(TPM_ALG.SHA256, Buffer.from('bar'), 50).toString('hex').slice(0, 20), '382576a7841021cc28fc');
  });
});
