import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { decapsulate, encapsulate } from '../../src/crypto/secrets.js';
import { verifySignature } from '../../src/crypto/signatures.js';
import { isTdesKey } from '../../src/crypto/tdes-key.js';
import { createSymmetricSecret, symmetricUnique } from '../../src/keys/symmetric-secret.js';
import { SoftwareEngine } from '../../src/keys/software.js';
import { TPM_ALG, TPM_ECC_CURVE, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { hash, hmac } from '../../src/tpm/hash.js';
import { xorObfuscate } from '../../src/tpm/kdf.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';
import type { TPMT_PUBLIC, TPMT_SIG_SCHEME } from '../../src/tpm/structures/index.js';
import { asParent, cipherTemplate, eccTemplate, hmacTemplate, PARENT, rsaTemplate, sealTemplate } from '../support/templates.js';

const engine = new SoftwareEngine();
const nothing = Buffer.alloc(0);
const failsWith =
  (code: number) =>
  (error: unknown): boolean =>
    error instanceof TpmError && error.code === code;
const rsassa: TPMT_SIG_SCHEME = { scheme: TPM_ALG.RSASSA, details: { hashAlg: TPM_ALG.SHA256 } };
const ecdsa: TPMT_SIG_SCHEME = { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } };
const ecdaa: TPMT_SIG_SCHEME = { scheme: TPM_ALG.ECDAA, details: { hashAlg: TPM_ALG.SHA256, count: 0 } };

const templates: readonly [string, TPMT_PUBLIC][] = [
  ['RSA', rsaTemplate(1024)],
  ['RSA parent', asParent(rsaTemplate(2048))],
  ['ECC P-256', eccTemplate()],
  ['ECC P-521', eccTemplate(TPM_ECC_CURVE.NIST_P521)],
  ['ECC parent', asParent(eccTemplate())],
  ['HMAC key', hmacTemplate()],
  ['cipher key', cipherTemplate()],
  ['TDES key', cipherTemplate({ algorithm: TPM_ALG.TDES, keyBits: 192, mode: TPM_ALG.CFB })],
];

describe('SoftwareEngine', () => {
  for (const [what, publicArea] of templates) {
    it(`${what}: random keys differ, derived keys are a function of seed, context and parameters`, async () => {
      assert.ok(engine.supports(publicArea));
      const derive = async (seed: number, context: string): Promise<string> => {
        const derivation = { seed: Buffer.alloc(64, seed), context: Buffer.from(context) };
        const key = await engine.create({ publicArea, sensitiveData: nothing, derivation });
        return JSON.stringify([key.publicArea.unique, key.privatePart.serialize().toString('hex')]);
      };
      const first = await derive(1, 'a');
      assert.equal(await derive(1, 'a'), first);
      assert.notEqual(await derive(2, 'a'), first);
      assert.notEqual(await derive(1, 'b'), first);
      const [one, two] = [
        await engine.create({ publicArea, sensitiveData: nothing }),
        await engine.create({ publicArea, sensitiveData: nothing }),
      ];
      assert.notDeepEqual(one.publicArea.unique, two.publicArea.unique);
    }).timeout(120_000);

    it(`${what}: is restored from what it was serialized to, and loads from its sensitive area`, async () => {
      const { publicArea: created, privatePart } = await engine.create({ publicArea, sensitiveData: nothing });
      const serialized = privatePart.serialize();
      const restored = engine.restore(created, serialized);
      assert.equal(restored.engineId, engine.id);
      assert.deepEqual(restored.serialize(), serialized);
      const parts = privatePart.toSensitive();
      const isParent = (created.objectAttributes & PARENT) === PARENT;
      const isSymmetric = created.type === TPM_ALG.KEYEDHASH || created.type === TPM_ALG.SYMCIPHER;
      assert.equal(parts.seedValue.length, isParent || isSymmetric ? 32 : 0);
      const external = engine.fromSensitive(created, { ...parts, authValue: nothing });
      if (isSymmetric) {
        assert.deepEqual(await external.secret(), await restored.secret());
      } else {
        const digest = randomBytes(32);
        for (const part of [restored, external]) {
          const signature = await part.sign(digest, created.type === TPM_ALG.RSA ? rsassa : ecdsa);
          assert.ok(verifySignature(created, digest, signature));
        }
      }
    });
  }

  it('refuses blobs of another format or length', () => {
    assert.throws(() => engine.restore(hmacTemplate(), Buffer.of(9, 0, 0, 0, 0)), failsWith(TPM_RC.FAILURE));
    assert.throws(() => engine.restore(hmacTemplate(), Buffer.of(1, 0, 4, 0, 0)), failsWith(TPM_RC.INSUFFICIENT));
    assert.throws(() => engine.restore(hmacTemplate(), Buffer.of(1, 0, 0, 0, 0, 7)), failsWith(TPM_RC.SIZE));
  });

  it('zeroizes a key that is disposed of', async () => {
    const { privatePart } = await engine.create({ publicArea: hmacTemplate(), sensitiveData: nothing });
    privatePart.dispose();
    const { seedValue, sensitive } = privatePart.toSensitive();
    assert.ok(Buffer.concat([seedValue, sensitive]).every((byte) => byte === 0));
  });

  it('says what it cannot compute', async () => {
    const unknown = eccTemplate(TPM_ECC_CURVE.NONE as never);
    assert.equal(engine.supports(unknown), false);
    await assert.rejects(engine.create({ publicArea: unknown, sensitiveData: nothing }), failsWith(TPM_RC.CURVE));
    const ecc = await engine.create({ publicArea: eccTemplate(), sensitiveData: nothing });
    await assert.rejects(ecc.privatePart.sign(randomBytes(32), ecdaa), failsWith(TPM_RC.SCHEME));
    await assert.rejects(ecc.privatePart.sign(randomBytes(32), rsassa), failsWith(TPM_RC.SCHEME));
    await assert.rejects(ecc.privatePart.ecdhZGen({ x: Buffer.of(1), y: Buffer.of(1) }), failsWith(TPM_RC.ECC_POINT));
    await assert.rejects(ecc.privatePart.rsaDecrypt(nothing, { scheme: TPM_ALG.RSAES, details: null }, nothing), failsWith(TPM_RC.KEY));
    const rsa = await engine.create({ publicArea: rsaTemplate(1024), sensitiveData: nothing });
    await assert.rejects(rsa.privatePart.sign(randomBytes(20), rsassa), failsWith(TPM_RC.VALUE));
    await assert.rejects(rsa.privatePart.sign(randomBytes(32), ecdsa), failsWith(TPM_RC.SCHEME));
  });
});

describe('createSymmetricSecret', () => {
  it('takes the caller’s data, within the limits of the scheme', () => {
    const make = (template: Parameters<typeof createSymmetricSecret>[0], size: number): Buffer =>
      createSymmetricSecret(template, Buffer.alloc(size, 3), randomBytes).secret.sensitive;
    assert.equal(make(hmacTemplate(), 64).length, 64);
    assert.throws(() => make(hmacTemplate(), 65), failsWith(TPM_RC.SIZE));
    assert.equal(make(sealTemplate(), 128).length, 128);
    assert.throws(() => make(sealTemplate(), 129), failsWith(TPM_RC.SIZE));
    assert.equal(make(cipherTemplate(), 16).length, 16);
    assert.throws(() => make(cipherTemplate(), 32), failsWith(TPM_RC.KEY_SIZE));
    const tdes = cipherTemplate({ algorithm: TPM_ALG.TDES, keyBits: 128, mode: TPM_ALG.CFB });
    assert.throws(() => make(tdes, 16), failsWith(TPM_RC.KEY));
    assert.ok(isTdesKey(make(tdes, 0)));
  });

  it('makes unique a hash, of a parent an HMAC', () => {
    const { publicArea, secret } = createSymmetricSecret(hmacTemplate(), nothing, randomBytes);
    assert.deepEqual(publicArea.unique, hash(TPM_ALG.SHA256, secret.seedValue, secret.sensitive));
    const parent = { ...cipherTemplate(), objectAttributes: PARENT };
    assert.deepEqual(symmetricUnique(parent, secret), hmac(TPM_ALG.SHA256, secret.seedValue, secret.sensitive));
    assert.equal(symmetricUnique({ ...parent, nameAlg: TPM_ALG.NULL }, secret).length, 0);
  });
});

describe('encapsulate and decapsulate', () => {
  for (const [what, publicArea] of templates.slice(0, 5)) {
    it(`${what}: the holder gets the secret, for the same use only`, async () => {
      const key = await engine.create({ publicArea, sensitiveData: nothing });
      const { secret, encrypted } = encapsulate(key.publicArea, 'SECRET');
      assert.equal(secret.length, 32);
      assert.deepEqual(await decapsulate(key.privatePart, key.publicArea, 'SECRET', encrypted), secret);
      const other = decapsulate(key.privatePart, key.publicArea, 'DUPLICATE', encrypted);
      if (publicArea.type === TPM_ALG.RSA) await assert.rejects(other, failsWith(TPM_RC.VALUE));
      else assert.notDeepEqual(await other, secret);
    });
  }

  it('tell what is wrong with what they are given', async () => {
    const ecc = await engine.create({ publicArea: eccTemplate(), sensitiveData: nothing });
    const open = (bytes: Buffer): Promise<Buffer> => decapsulate(ecc.privatePart, ecc.publicArea, 'SECRET', bytes);
    const { encrypted } = encapsulate(ecc.publicArea, 'SECRET');
    await assert.rejects(open(nothing), failsWith(TPM_RC.INSUFFICIENT));
    await assert.rejects(open(Buffer.concat([encrypted, Buffer.of(0)])), failsWith(TPM_RC.SIZE));
    await assert.rejects(open(Buffer.from('0001010001 01'.replace(' ', ''), 'hex')), failsWith(TPM_RC.ECC_POINT));
    const off = { ...ecc.publicArea, type: TPM_ALG.ECC, unique: { x: Buffer.of(1), y: Buffer.of(1) } } as TPMT_PUBLIC;
    assert.throws(() => encapsulate(off, 'SECRET'), failsWith(TPM_RC.KEY));
    const rsa = await engine.create({ publicArea: rsaTemplate(1024), sensitiveData: nothing });
    await assert.rejects(decapsulate(rsa.privatePart, rsa.publicArea, 'SECRET', nothing), failsWith(TPM_RC.SIZE));
  });

  it('open salts for symmetric keys', async () => {
    const template = { ...hmacTemplate(), objectAttributes: TPMA_OBJECT.decrypt };
    const key = await engine.create({ publicArea: template, sensitiveData: nothing });
    const { sensitive } = await key.privatePart.secret();
    const salt = randomBytes(20);
    const nonce = randomBytes(16);
    const sent = Buffer.from(salt);
    xorObfuscate(TPM_ALG.SHA256, sensitive, nonce, nothing, sent);
    assert.deepEqual(await decapsulate(key.privatePart, key.publicArea, 'SECRET', sent, nonce), salt);
    const long = decapsulate(key.privatePart, key.publicArea, 'SECRET', randomBytes(33), nonce);
    await assert.rejects(long, failsWith(TPM_RC.VALUE));
  });
});
