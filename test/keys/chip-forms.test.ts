// Keys in a chip that has SHA-1 and SHA-256 and nothing more, as many have: what it computes in another form, verified with node:crypto.
import assert from 'node:assert/strict';
import { constants, createHash, publicEncrypt, randomBytes, verify } from 'node:crypto';
import fc from 'fast-check';
import { decodeOaep } from '../../src/crypto/rsa-padding.js';
import type { GuestChip } from '../../src/hardware/guest/guest-chip.js';
import { HardwareEngine } from '../../src/keys/hardware-engine.js';
import { TPM_ALG, TPM_ECC_CURVE, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { digestSize } from '../../src/tpm/hash.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';
import { Bench, eccTemplate, EMPTY, newGuest, nodeKey, p1363, rsaTemplate } from '../hardware/fixture.js';

const HASHES = [
  [TPM_ALG.SHA1, 'sha1'],
  [TPM_ALG.SHA256, 'sha256'],
  [TPM_ALG.SHA384, 'sha384'],
  [TPM_ALG.SHA512, 'sha512'],
] as const;
const message = Buffer.from('a message');

describe('a chip with few hashes', function () {
  this.timeout(60_000);
  let bench: Bench;
  /** Which hashes the chip says that it has. */
  let engineWith: (...hashes: number[]) => HardwareEngine;

  before(async () => {
    bench = await Bench.start();
    const { chip } = await newGuest(await bench.open());
    engineWith = (...hashes) => {
      const algorithms = new Set([...chip.info.algorithms].filter((alg) => digestSize(alg) === 0).concat(hashes));
      return new HardwareEngine(Object.create(chip, { info: { value: { ...chip.info, algorithms } } }) as GuestChip, bench.log);
    };
  });
  after(() => bench.stop());
  const create = (engine: HardwareEngine, publicArea: Parameters<HardwareEngine['create']>[0]['publicArea']) =>
    engine.create({ publicArea, sensitiveData: EMPTY });

  for (const curveID of [TPM_ECC_CURVE.NIST_P256, TPM_ECC_CURVE.NIST_P384] as const) {
    it(`signs digests of every hash with ECDSA on curve ${curveID.toString()}`, async () => {
      for (const has of [[TPM_ALG.SHA256], [TPM_ALG.SHA512], [TPM_ALG.SHA1, TPM_ALG.SHA384]]) {
        const { publicArea, privatePart } = await create(engineWith(...has), eccTemplate(TPMA_OBJECT.sign, curveID));
        const size = curveID === TPM_ECC_CURVE.NIST_P256 ? 32 : 48;
        for (const [hashAlg, name] of HASHES) {
          // A digest of SHA-384 does not fit into one of SHA-256 on P-384.
          const fits = has.some((alg) => alg === hashAlg || digestSize(alg) >= Math.min(size, digestSize(hashAlg)));
          const digest = createHash(name).update(message).digest();
          const signed = privatePart.sign(digest, { scheme: TPM_ALG.ECDSA, details: { hashAlg } });
          if (fits) {
            const signature = await signed;
            assert.ok(signature.sigAlg === TPM_ALG.ECDSA && signature.signature.hash === hashAlg);
            const key = { key: nodeKey(publicArea), dsaEncoding: 'ieee-p1363' } as const;
            assert.ok(verify(name, message, key, p1363(signature, size)), `${name} with ${has.join()}`);
          } else await assert.rejects(signed, (error) => error instanceof TpmError && error.code === TPM_RC.SCHEME);
        }
      }
    });
  }

  it('signs digests of every hash with RSA', async () => {
    const { publicArea, privatePart } = await create(engineWith(TPM_ALG.SHA1, TPM_ALG.SHA256), rsaTemplate(TPMA_OBJECT.sign));
    for (const [scheme, padding] of [
      [TPM_ALG.RSASSA, constants.RSA_PKCS1_PADDING],
      [TPM_ALG.RSAPSS, constants.RSA_PKCS1_PSS_PADDING],
    ] as const) {
      for (const [hashAlg, name] of HASHES) {
        const digest = createHash(name).update(message).digest();
        const signature = await privatePart.sign(digest, { scheme, details: { hashAlg } });
        assert.ok(signature.sigAlg === scheme && signature.signature.hash === hashAlg);
        const key = { key: nodeKey(publicArea), padding, saltLength: constants.RSA_PSS_SALTLEN_AUTO };
        assert.ok(verify(name, message, key, signature.signature.sig), name);
      }
    }
  });

  it('decrypts OAEP of every hash, with labels that are longer than it takes', async () => {
    const { publicArea, privatePart } = await create(engineWith(TPM_ALG.SHA1, TPM_ALG.SHA256), rsaTemplate(TPMA_OBJECT.decrypt));
    for (const [hashAlg, name] of HASHES) {
      for (const label of [EMPTY, Buffer.alloc(34), Buffer.alloc(66)]) {
        const options = { key: nodeKey(publicArea), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: name, oaepLabel: label };
        for (const text of [EMPTY, message]) {
          const cipherText = publicEncrypt(options, text);
          assert.deepEqual(await privatePart.rsaDecrypt(cipherText, { scheme: TPM_ALG.OAEP, details: { hashAlg } }, label), text);
        }
        const other = privatePart.rsaDecrypt(
          publicEncrypt(options, message),
          { scheme: TPM_ALG.OAEP, details: { hashAlg } },
          Buffer.of(1, 0),
        );
        await assert.rejects(other, (error) => error instanceof TpmError && error.code === TPM_RC.VALUE);
      }
    }
  });
});

describe('decodeOaep', () => {
  it('refuses whatever is no encoding', () => {
    fc.assert(
      fc.property(fc.nat(300), (size) => {
        const refused = (error: unknown): boolean => error instanceof TpmError && error.code === TPM_RC.VALUE;
        assert.throws(() => decodeOaep(TPM_ALG.SHA256, EMPTY, randomBytes(size)), refused);
      }),
    );
  });
});
