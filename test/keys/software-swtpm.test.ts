// The software engine and a real TPM must agree: each loads the other's keys, checks the other's signatures, opens the other's secrets.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { makeCredential, openCredential, wrapParametersOf } from '../../src/crypto/credential.js';
import { getCurve, SOFTWARE_CURVES } from '../../src/crypto/ecc-curves.js';
import { toBytes } from '../../src/crypto/big-integer.js';
import { generateEccKey } from '../../src/crypto/ecc.js';
import { rsaEncrypt } from '../../src/crypto/encrypt.js';
import { innerWrap, newInnerKey, outerWrap } from '../../src/crypto/outer-wrap.js';
import { decapsulate, encapsulate } from '../../src/crypto/secrets.js';
import { verifySignature } from '../../src/crypto/signatures.js';
import { cryptBlocks } from '../../src/crypto/symmetric.js';
import { checkPublicArea, checkSensitiveArea } from '../../src/keys/key-binding.js';
import { SoftwareEngine, type CreatedSoftwareKey } from '../../src/keys/software.js';
import { HASH_ALGORITHMS, TPM_ALG, TPM_CC, TPM_ECC_CURVE, TPM_RH } from '../../src/tpm/constants/index.js';
import { digestSize, hmac } from '../../src/tpm/hash.js';
import { nameOfHandle, nameOfPublic, qualifiedName } from '../../src/tpm/name.js';
import { baseCode, TpmError } from '../../src/tpm/response-code.js';
import { decode, encode } from '../../src/tpm/schema.js';
import {
  TPMS_ALGORITHM_DETAIL_ECC,
  TPMS_ECC_POINT,
  TPMT_PUBLIC,
  TPMT_RSA_DECRYPT_PLUS,
  TPMT_SENSITIVE,
  TPMT_SIG_SCHEME,
  TPMT_SIGNATURE,
  TPMT_SYM_DEF_OBJECT,
  TPMT_SYM_DEF_OBJECT_PLUS,
} from '../../src/tpm/structures/index.js';
import { Reader } from '../../src/tpm/wire.js';
import { RawTpm, sizedBytes, u16, u32 } from '../support/raw-tpm.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { asParent, cipherTemplate, eccTemplate, hmacTemplate, PARENT, rsaTemplate, sealTemplate } from '../support/templates.js';

const nothing = Buffer.alloc(0);
const engine = new SoftwareEngine();
const create = (publicArea: TPMT_PUBLIC, sensitiveData = nothing): Promise<CreatedSoftwareKey> =>
  engine.create({ publicArea, sensitiveData });
const cipherParent = { ...cipherTemplate(), objectAttributes: PARENT };
const nullTicket = Buffer.concat([u16(0x8024), u32(TPM_RH.NULL), u16(0)]);

function sensitiveOf({ privatePart }: CreatedSoftwareKey, authValue = nothing): TPMT_SENSITIVE {
  return { ...privatePart.toSensitive(), authValue };
}

/** The `TPM2B` fields of a response. */
function fields(bytes: Buffer): () => Buffer {
  const reader = new Reader(bytes);
  return () => Buffer.from(reader.view(reader.uint16()));
}

describe('software keys and a real TPM', () => {
  let swtpm: Swtpm;
  let tpm: RawTpm;
  const loaded: number[] = [];
  before(async () => {
    swtpm = await startSwtpm();
    tpm = new RawTpm(swtpm.data);
  });
  after(async () => {
    tpm.close();
    await swtpm.stop();
  });
  afterEach(async () => {
    for (const handle of loaded.splice(0)) await tpm.run({ code: TPM_CC.FlushContext, parameters: u32(handle) });
  });

  function externalParameters(publicArea: TPMT_PUBLIC, sensitive?: TPMT_SENSITIVE): Buffer {
    const area = sensitive === undefined ? u16(0) : sizedBytes(encode(TPMT_SENSITIVE, sensitive));
    return Buffer.concat([area, sizedBytes(encode(TPMT_PUBLIC, publicArea)), u32(TPM_RH.NULL)]);
  }

  /** LoadExternal; also compares the Name. */
  async function load(publicArea: TPMT_PUBLIC, sensitive?: TPMT_SENSITIVE): Promise<number> {
    const parameters = externalParameters(publicArea, sensitive);
    const response = await tpm.run({ code: TPM_CC.LoadExternal, parameters, returnsHandle: true });
    loaded.push(response.handle);
    assert.deepEqual(fields(response.parameters)(), nameOfPublic(publicArea));
    return response.handle;
  }

  async function flush(handle: number): Promise<void> {
    loaded.splice(loaded.indexOf(handle), 1);
    await tpm.run({ code: TPM_CC.FlushContext, parameters: u32(handle) });
  }

  async function createPrimary(template: TPMT_PUBLIC): Promise<{ handle: number; publicArea: TPMT_PUBLIC }> {
    const parameters = Buffer.concat([sizedBytes(u16(0), u16(0)), sizedBytes(encode(TPMT_PUBLIC, template)), u16(0), u32(0)]);
    const made = await tpm.run({ code: TPM_CC.CreatePrimary, handles: [TPM_RH.OWNER], sessions: 1, parameters, returnsHandle: true });
    loaded.push(made.handle);
    return { handle: made.handle, publicArea: decode(TPMT_PUBLIC, fields(made.parameters)()) };
  }

  async function verifies(handle: number, digest: Buffer, signature: TPMT_SIGNATURE): Promise<boolean> {
    const parameters = Buffer.concat([sizedBytes(digest), encode(TPMT_SIGNATURE, signature)]);
    return (await tpm.send({ code: TPM_CC.VerifySignature, handles: [handle], parameters })).code === 0;
  }

  /** Signs with both sides and lets each check the other. */
  async function exchangeSignatures(key: CreatedSoftwareKey, handle: number, scheme: TPMT_SIG_SCHEME, digest: Buffer): Promise<void> {
    const ours = await key.privatePart.sign(digest, scheme);
    assert.ok(await verifies(handle, digest, ours), 'TPM refuses our signature');
    const parameters = Buffer.concat([sizedBytes(digest), encode(TPMT_SIG_SCHEME, scheme), nullTicket]);
    const response = await tpm.run({ code: TPM_CC.Sign, handles: [handle], sessions: 1, parameters });
    const theirs = decode(TPMT_SIGNATURE, Buffer.from(response.parameters));
    assert.ok(verifySignature(key.publicArea, digest, theirs), 'we refuse the signature of the TPM');
    const wrong = Buffer.from(digest);
    wrong[0] = (wrong[0] ?? 0) ^ 1;
    assert.ok(!verifySignature(key.publicArea, wrong, theirs));
    assert.ok(!(await verifies(handle, wrong, ours)));
  }

  it('agree on Names and qualified Names', async () => {
    const { handle } = await createPrimary(eccTemplate());
    const read = fields((await tpm.run({ code: TPM_CC.ReadPublic, handles: [handle] })).parameters);
    const publicArea = decode(TPMT_PUBLIC, read());
    const name = nameOfPublic(publicArea);
    assert.deepEqual(read(), name);
    assert.deepEqual(read(), qualifiedName(nameOfHandle(TPM_RH.OWNER), name, publicArea.nameAlg));
  });

  for (const bits of [1024, 2048, 3072] as const) {
    it(`RSA ${bits.toString()}: signatures and decryption`, async () => {
      const key = await create(rsaTemplate(bits));
      const handle = await load(key.publicArea, sensitiveOf(key));
      for (const hashAlg of HASH_ALGORITHMS) {
        for (const scheme of [TPM_ALG.RSASSA, TPM_ALG.RSAPSS] as const) {
          await exchangeSignatures(key, handle, { scheme, details: { hashAlg } }, randomBytes(digestSize(hashAlg)));
        }
      }
      const schemes: TPMT_RSA_DECRYPT_PLUS[] = [
        { scheme: TPM_ALG.NULL, details: null },
        { scheme: TPM_ALG.RSAES, details: null },
        ...HASH_ALGORITHMS.filter((alg) => 2 * digestSize(alg) + 18 < bits / 8).map((hashAlg): TPMT_RSA_DECRYPT_PLUS => ({
          scheme: TPM_ALG.OAEP,
          details: { hashAlg },
        })),
      ];
      const label = Buffer.from('label\0');
      for (const scheme of schemes) {
        const message = scheme.scheme === TPM_ALG.NULL ? Buffer.concat([Buffer.alloc(1), randomBytes(bits / 8 - 1)]) : randomBytes(16);
        const rest = Buffer.concat([encode(TPMT_RSA_DECRYPT_PLUS, scheme), sizedBytes(label)]);
        const ours = rsaEncrypt(key.publicArea, message, scheme, label);
        const opened = await tpm.run({
          ...{ code: TPM_CC.RSA_Decrypt, handles: [handle], sessions: 1 },
          parameters: Buffer.concat([sizedBytes(ours), rest]),
        });
        assert.deepEqual(fields(opened.parameters)(), message);
        const parameters = Buffer.concat([sizedBytes(message), rest]);
        const theirs = await tpm.run({ code: TPM_CC.RSA_Encrypt, handles: [handle], parameters });
        assert.deepEqual(await key.privatePart.rsaDecrypt(fields(theirs.parameters)(), scheme, label), message);
      }
    });
  }

  for (const curveID of SOFTWARE_CURVES.filter((id) => id !== TPM_ECC_CURVE.SM2_P256)) {
    const curve = getCurve(curveID);
    it(`ECC ${curve.name ?? curveID.toString()}: parameters, signatures and ECDH`, async () => {
      const detail = decode(
        TPMS_ALGORITHM_DETAIL_ECC,
        Buffer.from((await tpm.run({ code: TPM_CC.ECC_Parameters, parameters: u16(curveID) })).parameters),
      );
      assert.equal(detail.keySize, curve.keyBits);
      for (const name of ['p', 'a', 'b', 'gX', 'gY'] as const) {
        assert.deepEqual(toBytes(BigInt(`0x${detail[name].toString('hex')}`), curve.bytes), toBytes(curve[name], curve.bytes), name);
      }
      assert.deepEqual(detail.n, toBytes(curve.n, curve.orderBytes));
      const key = await create(eccTemplate(curveID));
      const handle = await load(key.publicArea, sensitiveOf(key));
      for (const hashAlg of HASH_ALGORITHMS) {
        for (const scheme of [TPM_ALG.ECDSA, TPM_ALG.ECSCHNORR] as const) {
          await exchangeSignatures(key, handle, { scheme, details: { hashAlg } }, randomBytes(digestSize(hashAlg)));
        }
      }
      const { x, y } = generateEccKey(curve).point;
      const parameters = sizedBytes(encode(TPMS_ECC_POINT, { x, y }));
      const z = await tpm.run({ code: TPM_CC.ECDH_ZGen, handles: [handle], sessions: 1, parameters });
      assert.deepEqual(await key.privatePart.ecdhZGen({ x, y }), decode(TPMS_ECC_POINT, fields(z.parameters)()));
    });
  }

  it('SM2: a TPM verifies our signatures and we verify its', async function () {
    const key = await create(eccTemplate(TPM_ECC_CURVE.SM2_P256));
    const parameters = externalParameters(key.publicArea, sensitiveOf(key));
    const response = await tpm.send({ code: TPM_CC.LoadExternal, parameters, returnsHandle: true });
    if (response.code !== 0) this.skip();
    loaded.push(response.handle);
    const scheme: TPMT_SIG_SCHEME = { scheme: TPM_ALG.SM2, details: { hashAlg: TPM_ALG.SHA256 } };
    await exchangeSignatures(key, response.handle, scheme, randomBytes(32));
  });

  it('HMAC keys and sealed data: the TPM accepts unique and computes the same', async () => {
    for (const [template, data] of [
      [hmacTemplate(), nothing],
      [hmacTemplate(TPM_ALG.SHA384), randomBytes(64)],
      [sealTemplate(), Buffer.from('sealed')],
    ] as const) {
      const key = await create(template, data);
      const handle = await load(key.publicArea, sensitiveOf(key));
      const { sensitive } = await key.privatePart.secret();
      if (data.length > 0) assert.deepEqual(sensitive, data);
      if (template.parameters.scheme.scheme === TPM_ALG.HMAC) {
        const parameters = Buffer.concat([sizedBytes(Buffer.from('text')), u16(TPM_ALG.NULL)]);
        const theirs = await tpm.run({ code: TPM_CC.HMAC, handles: [handle], sessions: 1, parameters });
        assert.deepEqual(fields(theirs.parameters)(), hmac(TPM_ALG.SHA256, sensitive, Buffer.from('text')));
      }
    }
  });

  const modes = [TPM_ALG.CFB, TPM_ALG.CTR, TPM_ALG.OFB, TPM_ALG.CBC, TPM_ALG.ECB] as const;
  for (const sym of [
    { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.NULL },
    { algorithm: TPM_ALG.AES, keyBits: 256, mode: TPM_ALG.NULL },
    { algorithm: TPM_ALG.CAMELLIA, keyBits: 128, mode: TPM_ALG.NULL },
    { algorithm: TPM_ALG.TDES, keyBits: 128, mode: TPM_ALG.NULL },
    { algorithm: TPM_ALG.TDES, keyBits: 192, mode: TPM_ALG.NULL },
  ] as const) {
    it(`cipher ${sym.algorithm.toString()} with ${sym.keyBits.toString()} bits: the same data and IV in every mode`, async () => {
      const key = await create(cipherTemplate(sym));
      const handle = await load(key.publicArea, sensitiveOf(key));
      const { sensitive } = await key.privatePart.secret();
      const block = sym.algorithm === TPM_ALG.TDES ? 8 : 16;
      for (const mode of modes) {
        for (const decrypt of [0, 1]) {
          const data = randomBytes(block * 3);
          const iv = mode === TPM_ALG.ECB ? nothing : Buffer.concat([randomBytes(block - 1), Buffer.of(0xff)]);
          const parameters = Buffer.concat([sizedBytes(data), Buffer.of(decrypt), u16(mode), sizedBytes(iv)]);
          const theirs = fields((await tpm.run({ code: TPM_CC.EncryptDecrypt2, handles: [handle], sessions: 1, parameters })).parameters);
          const direction = decrypt === 1 ? 'decrypt' : 'encrypt';
          const ours = cryptBlocks({ direction, algorithm: sym.algorithm, mode, key: sensitive, iv, data });
          assert.deepEqual(ours.data, theirs());
          if (mode !== TPM_ALG.ECB) assert.deepEqual(ours.iv, theirs(), `IV of mode ${mode.toString()}`);
        }
      }
    });
  }

  for (const [type, template] of [
    ['RSA', asParent(rsaTemplate())],
    ['ECC', asParent(eccTemplate())],
    ['ECC P-384', asParent(eccTemplate(TPM_ECC_CURVE.NIST_P384, TPM_ALG.SHA384))],
  ] as const) {
    it(`${type}: credentials in both directions`, async () => {
      const credential = Buffer.from('a credential');
      const subject = await createPrimary(eccTemplate());
      const name = nameOfPublic(subject.publicArea);
      const storage = await createPrimary(template);
      const { credentialBlob, secret } = makeCredential(storage.publicArea, name, credential);
      const opened = await tpm.run({
        ...{ code: TPM_CC.ActivateCredential, handles: [subject.handle, storage.handle], sessions: 2 },
        parameters: Buffer.concat([sizedBytes(credentialBlob), sizedBytes(secret)]),
      });
      assert.deepEqual(fields(opened.parameters)(), credential);
      await flush(storage.handle);

      const ours = await create(template);
      const handle = await load(ours.publicArea);
      const parameters = Buffer.concat([sizedBytes(credential), sizedBytes(name)]);
      const made = fields((await tpm.run({ code: TPM_CC.MakeCredential, handles: [handle], parameters })).parameters);
      const [blob, encrypted] = [made(), made()];
      const seed = await decapsulate(ours.privatePart, ours.publicArea, 'IDENTITY', encrypted);
      assert.deepEqual(openCredential(ours.publicArea, name, seed, blob), credential);
      assert.throws(() => openCredential(ours.publicArea, nameOfHandle(1), seed, blob), /TPM_RC_INTEGRITY/);
    });

    it(`${type}: the TPM imports what we wrapped for it`, async () => {
      const storage = await createPrimary(template);
      const cipher: TPMT_SYM_DEF_OBJECT = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB };
      for (const inner of [undefined, cipher]) {
        for (const objectTemplate of [eccTemplate(), hmacTemplate(TPM_ALG.SHA1), cipherTemplate(), cipherParent, asParent(eccTemplate())]) {
          const key = await create(objectTemplate);
          const name = nameOfPublic(key.publicArea);
          const plain = sizedBytes(encode(TPMT_SENSITIVE, sensitiveOf(key, Buffer.from('auth'))));
          const innerKey = inner === undefined ? nothing : newInnerKey(inner);
          const hashAlg = key.publicArea.nameAlg;
          const wrapped = inner === undefined ? plain : innerWrap({ hashAlg, symmetric: inner }, innerKey, name, plain);
          const { secret: seed, encrypted } = encapsulate(storage.publicArea, 'DUPLICATE');
          const duplicate = outerWrap(wrapParametersOf(storage.publicArea), seed, name, wrapped);
          const algorithm = encode(TPMT_SYM_DEF_OBJECT_PLUS, inner ?? { algorithm: TPM_ALG.NULL, keyBits: null, mode: null });
          const area = sizedBytes(encode(TPMT_PUBLIC, key.publicArea));
          const imported = await tpm.run({
            ...{ code: TPM_CC.Import, handles: [storage.handle], sessions: 1 },
            parameters: Buffer.concat([sizedBytes(innerKey), area, sizedBytes(duplicate), sizedBytes(encrypted), algorithm]),
          });
          const parameters = Buffer.concat([sizedBytes(fields(imported.parameters)()), area]);
          const child = await tpm.run({ code: TPM_CC.Load, handles: [storage.handle], sessions: 1, parameters, returnsHandle: true });
          loaded.push(child.handle);
          await flush(child.handle);
        }
      }
    });
  }

  it('refuse the same sensitive areas with the same code', async () => {
    const rsa = await create(rsaTemplate(1024));
    const other = await create(rsaTemplate(2048));
    const ecc = await create(eccTemplate());
    const mac = await create(hmacTemplate());
    const aes = await create(cipherTemplate());
    const changed = (key: CreatedSoftwareKey, change: object): TPMT_SENSITIVE => Object.assign(sensitiveOf(key), change);
    const prime = rsa.privatePart.toSensitive().sensitive;
    prime[30] = (prime[30] ?? 0) ^ 1;
    const cases: [string, CreatedSoftwareKey, TPMT_SENSITIVE, Partial<Record<'unique', unknown>>?][] = [
      ['another type', rsa, sensitiveOf(ecc)],
      ['a prime of another size', rsa, sensitiveOf(other)],
      ['a prime that does not divide', rsa, changed(rsa, { sensitive: prime })],
      ['a prime with a clear top bit', rsa, changed(rsa, { sensitive: Buffer.alloc(64, 0x7f) })],
      ['an authorization value that is too long', rsa, changed(rsa, { authValue: Buffer.alloc(33, 1) })],
      ['a short modulus', rsa, sensitiveOf(rsa), { unique: Buffer.alloc(64, 0xff) }],
      ['a scalar of 0', ecc, changed(ecc, { sensitive: Buffer.alloc(32) })],
      ['a scalar that is too large', ecc, changed(ecc, { sensitive: Buffer.alloc(32, 0xff) })],
      ['another scalar', ecc, changed(ecc, { sensitive: Buffer.alloc(32, 1) })],
      ['another HMAC key', mac, changed(mac, { sensitive: Buffer.alloc(32, 1) })],
      ['an HMAC key that is too long', mac, changed(mac, { sensitive: Buffer.alloc(65, 1) })],
      ['a short seed', mac, changed(mac, { seedValue: Buffer.alloc(31, 1) })],
      ['a short cipher key', aes, changed(aes, { sensitive: Buffer.alloc(15, 1) })],
      ['another cipher key', aes, changed(aes, { sensitive: Buffer.alloc(16, 1) })],
    ];
    for (const [what, key, sensitive, change] of cases) {
      const publicArea = Object.assign({ ...key.publicArea }, change);
      const theirs = await tpm.send({ code: TPM_CC.LoadExternal, parameters: externalParameters(publicArea, sensitive) });
      assert.notEqual(theirs.code, 0, what);
      let ours = 0;
      try {
        checkPublicArea(publicArea, false);
        checkSensitiveArea(publicArea, sensitive);
      } catch (error) {
        ours = error instanceof TpmError ? error.code : -1;
      }
      assert.equal(ours.toString(16), baseCode(theirs.code).toString(16), what);
    }
  });
});
