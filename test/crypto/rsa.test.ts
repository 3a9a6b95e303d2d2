import assert from 'node:assert/strict';
import { constants, createHash, createPublicKey, privateDecrypt, publicEncrypt, randomBytes, sign, verify } from 'node:crypto';
import fc from 'fast-check';
import { DerivationStream } from '../../src/crypto/random.js';
import { rsaDecryptMessage, rsaEncryptMessage, rsaSign, rsaVerify } from '../../src/crypto/rsa.js';
import { deriveRsaKey, generateRsaKey, rsaPrivateKey, rsaPublicKey, type RsaKey } from '../../src/crypto/rsa-key.js';
import { decodeRsaes } from '../../src/crypto/rsa-padding.js';
import { toBigInt } from '../../src/crypto/big-integer.js';
import { HASH_ALGORITHMS, TPM_ALG } from '../../src/tpm/constants/index.js';
import { hash, hashName } from '../../src/tpm/hash.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';

const failsWith =
  (code: number) =>
  (error: unknown): boolean =>
    error instanceof TpmError && error.code === code;
const none = Buffer.alloc(0);
const raw = { scheme: TPM_ALG.NULL, hashAlg: TPM_ALG.NULL };
const rsaes = { scheme: TPM_ALG.RSAES, hashAlg: TPM_ALG.NULL };

describe('RSA keys', () => {
  it('are generated with the exponent asked for', async () => {
    const key = await generateRsaKey(1024, 0x10003);
    const message = randomBytes(20);
    const signature = sign('sha256', message, rsaPrivateKey(key.modulus, 0x10003, key.prime));
    assert.ok(verify('sha256', message, rsaPublicKey(key.modulus, 0x10003), signature));
    assert.equal(key.modulus.length, 128);
    assert.equal(key.prime.length, 64);
  });

  it('are refused with another size or exponent', async () => {
    await assert.rejects(generateRsaKey(1536, 0), failsWith(TPM_RC.KEY_SIZE));
    await assert.rejects(generateRsaKey(2048, 3), failsWith(TPM_RC.RANGE));
    await assert.rejects(generateRsaKey(2048, 0x10005), failsWith(TPM_RC.RANGE));
  });

  it('are a function of the stream they are derived from', async () => {
    const derive = (context: string): Promise<RsaKey> =>
      deriveRsaKey(2048, 0, new DerivationStream(Buffer.alloc(32, 7), Buffer.from(context), 'test').bytes);
    const [first, again, other] = [await derive('a'), await derive('a'), await derive('b')];
    assert.deepEqual(first, again);
    assert.notDeepEqual(first, other);
    assert.equal(first.modulus.length, 256);
    assert.ok((first.modulus[0] ?? 0) >= 0x80 && (first.prime[0] ?? 0) >= 0xc0);
    const signature = sign('sha256', none, rsaPrivateKey(first.modulus, 0, first.prime));
    assert.ok(verify('sha256', none, rsaPublicKey(first.modulus, 0), signature));
  });

  it('are refused if the prime is none of the modulus', async () => {
    const { modulus, prime } = await generateRsaKey(1024, 0);
    const wrong = Buffer.from(prime);
    wrong[20] = (wrong[20] ?? 0) ^ 1;
    for (const bad of [wrong, Buffer.alloc(64), Buffer.of(1), modulus]) {
      assert.throws(() => rsaPrivateKey(modulus, 0, bad), failsWith(TPM_RC.BINDING));
    }
  });
});

for (const bits of [1024, 2048, 3072]) {
  describe(`RSA operations, ${bits.toString()} bits`, () => {
    let key: RsaKey;
    before(async () => {
      key = await generateRsaKey(bits, 0);
    });
    const privateKey = (): ReturnType<typeof rsaPrivateKey> => rsaPrivateKey(key.modulus, 0, key.prime);
    const publicKey = (): { modulus: Buffer; exponent: number } => ({ modulus: key.modulus, exponent: 0 });

    for (const hashAlg of HASH_ALGORITHMS) {
      it(`sign what OpenSSL verifies and the reverse, with ${hashName(hashAlg)}`, () => {
        const message = randomBytes(50);
        const digest = hash(hashAlg, message);
        const name = hashName(hashAlg);
        const node = createPublicKey(privateKey());
        for (const [scheme, padding] of [
          [TPM_ALG.RSASSA, constants.RSA_PKCS1_PADDING],
          [TPM_ALG.RSAPSS, constants.RSA_PKCS1_PSS_PADDING],
        ] as const) {
          const ours = rsaSign(privateKey(), key.modulus.length, { scheme, hashAlg }, digest);
          assert.ok(verify(name, message, { key: node, padding }, ours));
          const theirs = sign(name, message, { key: privateKey(), padding });
          assert.ok(rsaVerify(publicKey(), { scheme, hashAlg }, digest, theirs));
          assert.ok(!rsaVerify(publicKey(), { scheme, hashAlg }, hash(hashAlg, digest), theirs));
          assert.ok(!rsaVerify(publicKey(), { scheme, hashAlg }, digest, Buffer.alloc(key.modulus.length, 0xff)));
          assert.ok(!rsaVerify(publicKey(), { scheme, hashAlg }, digest, theirs.subarray(1)));
        }
      });

      it(`encrypt and decrypt OAEP as OpenSSL does, with ${hashName(hashAlg)}`, () => {
        const scheme = { scheme: TPM_ALG.OAEP, hashAlg };
        const room = key.modulus.length - 2 * createHash(hashName(hashAlg)).digest().length - 2;
        if (room < 0) {
          assert.throws(() => rsaEncryptMessage(publicKey(), scheme, none, none), failsWith(TPM_RC.HASH));
          return;
        }
        const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: hashName(hashAlg) };
        for (const label of [none, Buffer.from('SECRET\0')]) {
          const message = randomBytes(Math.min(room, 32));
          const full = label.length > 0 ? { ...oaep, oaepLabel: label } : oaep;
          const ours = rsaEncryptMessage(publicKey(), scheme, message, label);
          assert.deepEqual(privateDecrypt({ key: privateKey(), ...full }, ours), message);
          const theirs = publicEncrypt({ key: createPublicKey(privateKey()), ...full }, message);
          assert.deepEqual(rsaDecryptMessage(privateKey(), key.modulus, scheme, theirs, label), message);
          assert.throws(
            () => rsaDecryptMessage(privateKey(), key.modulus, scheme, theirs, Buffer.from('OTHER\0')),
            failsWith(TPM_RC.VALUE),
          );
        }
        assert.throws(() => rsaEncryptMessage(publicKey(), scheme, Buffer.alloc(room + 1), none), failsWith(TPM_RC.VALUE));
      });
    }

    it('do RSAES and raw round trips', () => {
      for (const size of [0, 1, 32, key.modulus.length - 11]) {
        const message = randomBytes(size);
        const cipher = rsaEncryptMessage(publicKey(), rsaes, message, none);
        assert.deepEqual(rsaDecryptMessage(privateKey(), key.modulus, rsaes, cipher, none), message);
      }
      const short = rsaEncryptMessage(publicKey(), raw, Buffer.from('0000000005', 'hex'), none);
      assert.equal(toBigInt(rsaDecryptMessage(privateKey(), key.modulus, raw, short, none)), 5n);
      assert.throws(() => rsaEncryptMessage(publicKey(), raw, key.modulus, none), failsWith(TPM_RC.VALUE));
      assert.throws(() => rsaDecryptMessage(privateKey(), key.modulus, raw, key.modulus, none), failsWith(TPM_RC.VALUE));
      assert.throws(() => rsaDecryptMessage(privateKey(), key.modulus, raw, none, none), failsWith(TPM_RC.SIZE));
    });
  });
}

describe('numbers that are no RSA key', () => {
  it('give an answer, not a failure', async () => {
    const { modulus, prime } = await generateRsaKey(1024, 0);
    const pss = { scheme: TPM_ALG.RSAPSS, hashAlg: TPM_ALG.SHA256 };
    for (const bad of [Buffer.alloc(128, 0x80), Buffer.concat([modulus.subarray(0, 127), Buffer.of(0)])]) {
      for (const exponent of [0, 8, 7]) {
        const key = { modulus: bad, exponent };
        assert.equal(rsaVerify(key, pss, Buffer.alloc(32), Buffer.alloc(128, 5)), false);
        for (const scheme of [raw, rsaes]) {
          try {
            rsaEncryptMessage(key, scheme, Buffer.alloc(20, 5), none);
          } catch (error) {
            assert.ok(failsWith(TPM_RC.VALUE)(error));
          }
        }
      }
      for (const factor of [Buffer.alloc(64, 0x80), Buffer.of(0x80), Buffer.of(3), prime]) {
        try {
          const key = rsaPrivateKey(bad, 0, factor);
          rsaSign(key, 128, pss, Buffer.alloc(32));
          rsaDecryptMessage(key, bad, raw, Buffer.alloc(128, 1), none);
        } catch (error) {
          assert.ok(failsWith(TPM_RC.BINDING)(error), String(error));
        }
      }
    }
  });
});

describe('decodeRsaes', () => {
  it('takes exactly the encodings of PKCS #1', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.integer({ min: 0, max: 30 }), (message, fill) => {
        const encoded = Buffer.concat([Buffer.of(0, 2), Buffer.alloc(fill, 0x5a), Buffer.of(0), message]);
        if (fill < 8) assert.throws(() => decodeRsaes(encoded), failsWith(TPM_RC.VALUE));
        else assert.deepEqual(decodeRsaes(encoded), Buffer.from(message));
      }),
    );
    for (const bad of ['0102' + '55'.repeat(8) + '00', '0001' + '55'.repeat(8) + '00', '0002' + '55'.repeat(20), '']) {
      assert.throws(() => decodeRsaes(Buffer.from(bad, 'hex')), failsWith(TPM_RC.VALUE));
    }
  });
});
