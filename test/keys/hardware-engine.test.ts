// Keys of a guest in a real TPM, verified with node:crypto.
import assert from 'node:assert/strict';
import { constants, createECDH, createHash, diffieHellman, generateKeyPairSync, publicEncrypt, randomBytes, verify } from 'node:crypto';
import type { GuestChip } from '../../src/hardware/guest/guest-chip.js';
import type { Hardware } from '../../src/hardware/hardware.js';
import { deriveBlobKey, openPrivate, sealPrivate } from '../../src/keys/blob.js';
import type { CreatedKey, PrivatePart } from '../../src/keys/engine.js';
import { HardwareEngine } from '../../src/keys/hardware-engine.js';
import { TPM_ALG, TPM_ECC_CURVE, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { hash } from '../../src/tpm/hash.js';
import { nameOfPublic } from '../../src/tpm/name.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { Bench, eccTemplate, ECDSA_SHA256, EMPTY, newGuest, NO_SCHEME, nodeKey, p1363, rsaTemplate } from '../hardware/fixture.js';

const { sign: SIGN, decrypt: DECRYPT, restricted: RESTRICTED } = TPMA_OBJECT;
const OAEP = { scheme: TPM_ALG.OAEP, details: { hashAlg: TPM_ALG.SHA256 } } as const;
const rejectsWith = (promise: Promise<unknown>, code: number): Promise<void> =>
  assert.rejects(promise, (error: unknown) => error instanceof TpmError && error.code === code);

describe('hardware engine', () => {
  let bench: Bench;
  let hardware: Hardware;
  let chip: GuestChip;
  let stateKey: Buffer;
  let engine: HardwareEngine;
  const create = (publicArea: TPMT_PUBLIC, sensitiveData: Buffer = EMPTY): Promise<CreatedKey> =>
    engine.create({ publicArea, sensitiveData });

  before(async () => {
    bench = await Bench.start();
    hardware = await bench.open();
    ({ chip, stateKey } = await newGuest(hardware));
    engine = new HardwareEngine(chip, bench.log);
  });
  after(() => bench.stop());

  const message = Buffer.from('a message');
  const sha256 = createHash('sha256').update(message).digest();
  /** Has `privatePart` sign, and verifies that with the public key. */
  const assertSigns = async (publicArea: TPMT_PUBLIC, privatePart: PrivatePart, signed = message): Promise<void> => {
    const digest = createHash('sha256').update(signed).digest();
    const signature = p1363(await privatePart.sign(digest, ECDSA_SHA256), 32);
    assert.ok(verify('sha256', signed, { key: nodeKey(publicArea), dsaEncoding: 'ieee-p1363' }, signature));
  };

  for (const curveID of [TPM_ECC_CURVE.NIST_P256, TPM_ECC_CURVE.NIST_P384] as const) {
    const size = curveID === TPM_ECC_CURVE.NIST_P256 ? 32 : 48;
    it(`signs with ECDSA on curve ${curveID.toString()}`, async () => {
      const { publicArea, privatePart } = await create(eccTemplate(SIGN, curveID));
      const signature = p1363(await privatePart.sign(sha256, ECDSA_SHA256), size);
      assert.ok(verify('sha256', message, { key: nodeKey(publicArea), dsaEncoding: 'ieee-p1363' }, signature));
    });

    it(`agrees a secret with ECDH on curve ${curveID.toString()}`, async () => {
      const { publicArea, privatePart } = await create(eccTemplate(DECRYPT, curveID));
      const own = generateKeyPairSync('ec', { namedCurve: size === 32 ? 'P-256' : 'P-384' });
      const jwk = own.publicKey.export({ format: 'jwk' });
      const point = { x: Buffer.from(jwk.x ?? '', 'base64url'), y: Buffer.from(jwk.y ?? '', 'base64url') };
      const shared = await privatePart.ecdhZGen(point);
      assert.equal(shared.x.length, size);
      assert.deepEqual(shared.x, diffieHellman({ privateKey: own.privateKey, publicKey: nodeKey(publicArea) }));
      await rejectsWith(privatePart.ecdhZGen({ x: point.x, y: point.x }), TPM_RC.ECC_POINT);
    });
  }

  for (const keyBits of [2048, 3072] as const) {
    it(`signs with RSASSA and RSAPSS, ${keyBits.toString()} bits; the private blob of a guest stays small`, async () => {
      const { publicArea, privatePart } = await create(rsaTemplate(SIGN, keyBits));
      for (const scheme of [TPM_ALG.RSASSA, TPM_ALG.RSAPSS] as const) {
        const signature = await privatePart.sign(sha256, { scheme, details: { hashAlg: TPM_ALG.SHA256 } });
        assert.ok(signature.sigAlg === TPM_ALG.RSASSA || signature.sigAlg === TPM_ALG.RSAPSS);
        const padding = scheme === TPM_ALG.RSASSA ? constants.RSA_PKCS1_PADDING : constants.RSA_PKCS1_PSS_PADDING;
        const key = { key: nodeKey(publicArea), padding, saltLength: constants.RSA_PSS_SALTLEN_AUTO };
        assert.ok(verify('sha256', message, key, signature.signature.sig));
      }
      const blob = sealPrivate(
        deriveBlobKey(stateKey),
        { engineId: engine.id, authValue: Buffer.alloc(32), serialized: privatePart.serialize() },
        nameOfPublic(publicArea),
        nameOfPublic(publicArea),
      );
      assert.ok(blob.length < 1024, blob.length.toString());
    });
  }

  it('decrypts RSA: OAEP with a label, PKCS #1, raw', async () => {
    const { publicArea, privatePart } = await create(rsaTemplate(DECRYPT | SIGN));
    const key = nodeKey(publicArea);
    const label = Buffer.from('IDENTITY\0');
    const oaep = publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256', oaepLabel: label }, message);
    assert.deepEqual(await privatePart.rsaDecrypt(oaep, OAEP, label), message);
    await rejectsWith(privatePart.rsaDecrypt(oaep, OAEP, Buffer.from('OTHER\0')), TPM_RC.VALUE);
    await rejectsWith(privatePart.rsaDecrypt(oaep.subarray(1), OAEP, label), TPM_RC.SIZE);
    const pkcs1 = publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, message);
    assert.deepEqual(await privatePart.rsaDecrypt(pkcs1, { scheme: TPM_ALG.RSAES, details: null }, EMPTY), message);
    const plain = Buffer.concat([Buffer.alloc(200), randomBytes(56)]);
    const raw = publicEncrypt({ key, padding: constants.RSA_NO_PADDING }, plain);
    assert.deepEqual(await privatePart.rsaDecrypt(raw, NO_SCHEME, EMPTY), plain);
  });

  it('restores a key from what it serialized, without a command', async () => {
    const { publicArea, privatePart } = await create(eccTemplate());
    let restored = privatePart;
    assert.deepEqual(
      await bench.commandsOf(() => {
        restored = engine.restore(publicArea, privatePart.serialize());
        return Promise.resolve();
      }),
      [],
    );
    await assertSigns(publicArea, restored);
    assert.deepEqual(await bench.commandsOf(() => assertSigns(publicArea, restored)), ['Sign']);
  });

  it('keeps no view of what it restores from', async () => {
    const { publicArea, privatePart } = await create(eccTemplate());
    const serialized = privatePart.serialize();
    const restored = engine.restore(publicArea, serialized);
    serialized.fill(0);
    await assertSigns(publicArea, restored);
  });

  it('makes guest storage keys and EKs decryption keys, AKs signing keys', async () => {
    const srk = await create({
      ...rsaTemplate(RESTRICTED | DECRYPT),
      parameters: { symmetric: { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB }, scheme: NO_SCHEME, keyBits: 2048, exponent: 0 },
    } as TPMT_PUBLIC);
    const label = Buffer.from('DUPLICATE\0');
    const cipherText = publicEncrypt(
      { key: nodeKey(srk.publicArea), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256', oaepLabel: label },
      message,
    );
    assert.deepEqual(await srk.privatePart.rsaDecrypt(cipherText, OAEP, label), message);
    assert.equal(srk.publicArea.objectAttributes & RESTRICTED, RESTRICTED);

    const ak = await create({ ...eccTemplate(RESTRICTED | SIGN), nameAlg: TPM_ALG.SHA384 });
    await assertSigns(ak.publicArea, ak.privatePart, Buffer.concat([Buffer.from('ff544347', 'hex'), message]));
  });

  it('seals data, HMAC keys and symmetric keys', async () => {
    const sealed = {
      type: TPM_ALG.KEYEDHASH,
      nameAlg: TPM_ALG.SHA256,
      objectAttributes: TPMA_OBJECT.userWithAuth,
      authPolicy: EMPTY,
      parameters: { scheme: NO_SCHEME },
      unique: EMPTY,
    } as const;
    const data = randomBytes(128);
    const { publicArea, privatePart } = await create(sealed, Buffer.from(data));
    assert.equal(publicArea.type, TPM_ALG.KEYEDHASH);
    const { seedValue, sensitive } = await privatePart.secret();
    assert.deepEqual(sensitive, data);
    assert.deepEqual(publicArea.unique, hash(TPM_ALG.SHA256, seedValue, sensitive));
    assert.deepEqual(await bench.commandsOf(() => privatePart.secret()), ['ECDH_ZGen']);
    const again = await engine.restore(publicArea, privatePart.serialize()).secret();
    assert.deepEqual(again, { seedValue, sensitive });
    assert.equal(privatePart.serialize().includes(data.subarray(0, 16)), false);

    const hmac = {
      ...sealed,
      objectAttributes: SIGN | TPMA_OBJECT.sensitiveDataOrigin,
      parameters: { scheme: { scheme: TPM_ALG.HMAC, details: { hashAlg: TPM_ALG.SHA256 } } },
    } as const;
    assert.ok((await (await create(hmac)).privatePart.secret()).sensitive.length >= 32);
    const cipher = {
      ...sealed,
      type: TPM_ALG.SYMCIPHER,
      objectAttributes: DECRYPT | TPMA_OBJECT.sensitiveDataOrigin,
      parameters: { sym: { algorithm: TPM_ALG.AES, keyBits: 256, mode: TPM_ALG.CFB } },
    } as const;
    assert.equal((await (await create(cipher)).privatePart.secret()).sensitive.length, 32);
  });

  it('adopts keys from outside, which nobody sees on the bus', async () => {
    const ecc = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const jwk = ecc.privateKey.export({ format: 'jwk' });
    const part = (name: 'x' | 'y' | 'd'): Buffer => Buffer.from(jwk[name] ?? '', 'base64url');
    const eccPublic = { ...eccTemplate(), unique: { x: part('x'), y: part('y') } } as TPMT_PUBLIC;
    const outside = { authValue: Buffer.from('guest auth'), seedValue: EMPTY };
    const adopted = await engine.adopt(eccPublic, { ...outside, sensitiveType: TPM_ALG.ECC, sensitive: part('d') });
    for (const key of [adopted, engine.restore(eccPublic, adopted.serialize())]) {
      const signature = p1363(await key.sign(sha256, ECDSA_SHA256), 32);
      assert.ok(verify('sha256', message, { key: ecc.publicKey, dsaEncoding: 'ieee-p1363' }, signature));
    }
    assert.equal(
      bench.relay.commands.some((command) => command.includes(part('d'))),
      false,
    );

    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const rsaJwk = rsa.privateKey.export({ format: 'jwk' });
    const rsaPublic = { ...rsaTemplate(DECRYPT), unique: Buffer.from(rsaJwk.n ?? '', 'base64url') } as TPMT_PUBLIC;
    const prime = Buffer.from(rsaJwk.p ?? '', 'base64url');
    const rsaPart = await engine.adopt(rsaPublic, { ...outside, sensitiveType: TPM_ALG.RSA, sensitive: prime });
    const cipherText = publicEncrypt({ key: rsa.publicKey, padding: constants.RSA_PKCS1_PADDING }, message);
    assert.deepEqual(await rsaPart.rsaDecrypt(cipherText, { scheme: TPM_ALG.RSAES, details: null }, EMPTY), message);

    const sealed = {
      type: TPM_ALG.KEYEDHASH,
      nameAlg: TPM_ALG.SHA256,
      objectAttributes: TPMA_OBJECT.userWithAuth,
      authPolicy: EMPTY,
      parameters: { scheme: NO_SCHEME },
      unique: EMPTY,
    } as const;
    const secret = { seedValue: randomBytes(32), sensitive: randomBytes(40) };
    const symmetric = await engine.adopt(sealed, { ...outside, ...secret, sensitiveType: TPM_ALG.KEYEDHASH });
    assert.deepEqual(await symmetric.secret(), secret);
  });

  it('refuses what the chip does not have, and says so before', async () => {
    const refused: [TPMT_PUBLIC, number][] = [
      [rsaTemplate(SIGN, 4096), TPM_RC.KEY_SIZE],
      [
        {
          ...rsaTemplate(SIGN),
          parameters: { symmetric: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null }, scheme: NO_SCHEME, keyBits: 2048, exponent: 3 },
        } as TPMT_PUBLIC,
        TPM_RC.RANGE,
      ],
      [eccTemplate(SIGN, TPM_ECC_CURVE.SM2_P256 as never), TPM_RC.CURVE],
    ];
    for (const [template, code] of refused) {
      assert.equal(engine.supports(template), false);
      await rejectsWith(create(template), code);
    }
  });

  it('refuses a digest of the wrong size, a scheme it lacks, and the other kind of key', async () => {
    const { privatePart } = await create(eccTemplate());
    await rejectsWith(privatePart.sign(sha256.subarray(1), ECDSA_SHA256), TPM_RC.SIZE);
    await rejectsWith(privatePart.sign(sha256, { scheme: TPM_ALG.ECDAA, details: { hashAlg: TPM_ALG.SHA256, count: 0 } }), TPM_RC.SCHEME);
    await rejectsWith(privatePart.sign(sha256, { scheme: TPM_ALG.RSASSA, details: { hashAlg: TPM_ALG.SHA256 } }), TPM_RC.SCHEME);
    await rejectsWith(privatePart.rsaDecrypt(Buffer.alloc(256), NO_SCHEME, EMPTY), TPM_RC.KEY);
    const fixed = await create(eccTemplate(SIGN | TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent));
    await rejectsWith(fixed.privatePart.secret(), TPM_RC.ATTRIBUTES);
  });

  it('hands out the secret of a key that its guest made duplicable, and of no other', async () => {
    bench.relay.clear();
    const ecc = await create(eccTemplate());
    const scalar = (await ecc.privatePart.secret()).sensitive;
    const own = createECDH('prime256v1');
    own.setPrivateKey(scalar);
    const { unique } = ecc.publicArea as Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.ECC }>;
    assert.equal(own.getPublicKey('hex'), Buffer.concat([Buffer.of(4), unique.x, unique.y]).toString('hex'));
    const rsa = await create(rsaTemplate(SIGN | DECRYPT));
    const prime = (await rsa.privatePart.secret()).sensitive;
    const modulus = BigInt(`0x${(rsa.publicArea.unique as Buffer).toString('hex')}`);
    assert.equal(modulus % BigInt(`0x${prime.toString('hex')}`), 0n);
    const seen = (bytes: Buffer): boolean => bench.relay.commands.some((command) => command.includes(bytes));
    assert.equal(seen(scalar) || seen(prime), false);
    const restored = engine.restore(ecc.publicArea, ecc.privatePart.serialize());
    assert.deepEqual((await restored.secret()).sensitive, scalar);
    await assertSigns(ecc.publicArea, restored);
  });

  it('does not open another guest’s key, even with its blob in clear', async () => {
    const other = await newGuest(hardware, 'other');
    const { publicArea, privatePart } = await create(eccTemplate());
    const stolen = new HardwareEngine(other.chip, bench.log).restore(publicArea, privatePart.serialize());
    await assertSigns(publicArea, privatePart);
    await rejectsWith(stolen.sign(sha256, ECDSA_SHA256), TPM_RC.FAILURE);
    const name = nameOfPublic(publicArea);
    const blob = sealPrivate(deriveBlobKey(stateKey), { engineId: 2, authValue: EMPTY, serialized: privatePart.serialize() }, name, name);
    assert.throws(() => openPrivate(deriveBlobKey(other.stateKey), blob, name, name), TpmError);
  });

  it('answers a damaged chip blob with TPM_RC_FAILURE, logs and counts it', async () => {
    const { publicArea, privatePart } = await create(eccTemplate());
    const damaged = privatePart.serialize();
    damaged.writeUInt8(damaged.readUInt8(20) ^ 1, 20);
    await rejectsWith(engine.restore(publicArea, damaged).sign(sha256, ECDSA_SHA256), TPM_RC.FAILURE);
    assert.match(bench.log.lines.at(-1) ?? '', /the TPM did not do what a key of a guest needs/);
    assert.deepEqual([...chip.account.refusals], [['Load', 1]]);
  });
});
