import assert from 'node:assert/strict';
import { createHash, createPublicKey, generateKeyPairSync, randomBytes, sign, verify } from 'node:crypto';
import { modInverse, toBigInt, toBytes } from '../../src/crypto/big-integer.js';
import { getCurve, SOFTWARE_CURVES, type Curve } from '../../src/crypto/ecc-curves.js';
import { generateEccKey, isOnCurve, multiply, multiplyBase, type EccPoint } from '../../src/crypto/ecc.js';
import { ecSchnorrSign, ecSchnorrVerify, ecdsaSign, ecdsaVerify, sm2Sign, sm2Verify } from '../../src/crypto/ecc-signatures.js';
import { TPM_ALG, TPM_ECC_CURVE } from '../../src/tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';

const jwkNames = new Map<number, string>([
  [TPM_ECC_CURVE.NIST_P256, 'P-256'],
  [TPM_ECC_CURVE.NIST_P384, 'P-384'],
  [TPM_ECC_CURVE.NIST_P521, 'P-521'],
]);

const scalar = (curve: Curve, value: bigint): Buffer => toBytes(value, curve.orderBytes);

function same(a: EccPoint, b: EccPoint): void {
  assert.equal(a.x.toString('hex'), b.x.toString('hex'));
  assert.equal(a.y.toString('hex'), b.y.toString('hex'));
}

for (const id of SOFTWARE_CURVES) {
  const curve = getCurve(id);
  describe(`curve ${curve.name ?? id.toString()}`, () => {
    const base = { x: toBytes(curve.gX, curve.bytes), y: toBytes(curve.gY, curve.bytes) };

    it('has its base point, of the stated order', () => {
      assert.ok(isOnCurve(curve, base));
      same(multiplyBase(curve, scalar(curve, 1n)), base);
      const last = multiplyBase(curve, scalar(curve, curve.n - 1n));
      assert.equal(toBigInt(last.x), curve.gX);
      assert.equal(toBigInt(last.y), curve.p - curve.gY);
    });

    it('multiplies points with both coordinates', () => {
      const a = generateEccKey(curve);
      const b = generateEccKey(curve);
      same(multiply(curve, a.d, b.point), multiply(curve, b.d, a.point));
      same(multiply(curve, a.d, base), a.point);
    });

    it('multiplies by 1, 2, -1, -2 and to plus and minus the point', () => {
      const { d, point } = generateEccKey(curve);
      for (const k of [1n, 2n, curve.n - 1n, curve.n - 2n]) {
        const expected = multiplyBase(curve, scalar(curve, (k * toBigInt(d)) % curve.n));
        same(multiply(curve, scalar(curve, k), point), expected);
      }
      same(multiply(curve, scalar(curve, modInverse(toBigInt(d), curve.n)), point), base);
    });

    it('refuses a point that is not on it', () => {
      const { d, point } = generateEccKey(curve);
      const wrong = { x: point.x, y: toBytes(toBigInt(point.y) ^ 1n, curve.bytes) };
      assert.throws(
        () => multiply(curve, d, wrong),
        (error) => error instanceof TpmError && error.code === TPM_RC.ECC_POINT,
      );
      assert.equal(isOnCurve(curve, { x: Buffer.alloc(0), y: Buffer.alloc(0) }), false);
    });

    it('verifies its signatures of digests of any length, and no others', () => {
      const { d, point } = generateEccKey(curve);
      for (const size of [20, 32, 48, 64]) {
        const digest = randomBytes(size);
        const other = randomBytes(size);
        const negated = toBytes(curve.n * 2n ** 8n - toBigInt(digest.subarray(0, 16)), curve.orderBytes + 1);
        const ecdsa = ecdsaSign(curve, d, digest);
        assert.ok(ecdsaVerify(curve, point, digest, ecdsa));
        assert.ok(!ecdsaVerify(curve, point, other, ecdsa));
        assert.ok(!ecdsaVerify(curve, point, negated, ecdsa));
        assert.ok(!ecdsaVerify(curve, point, digest, { r: ecdsa.r, s: Buffer.alloc(0) }));
        assert.ok(!ecdsaVerify(curve, point, digest, { r: ecdsa.r, s: toBytes(toBigInt(ecdsa.s) + curve.n, curve.orderBytes + 1) }));
        const schnorr = ecSchnorrSign(curve, d, digest, TPM_ALG.SHA256);
        assert.ok(ecSchnorrVerify(curve, point, digest, TPM_ALG.SHA256, schnorr));
        assert.ok(!ecSchnorrVerify(curve, point, other, TPM_ALG.SHA256, schnorr));
        const sm2 = sm2Sign(curve, d, digest);
        assert.ok(sm2Verify(curve, point, digest, sm2));
        assert.ok(!sm2Verify(curve, point, other, sm2));
      }
    }).timeout(120_000);

    const crv = jwkNames.get(id);
    if (crv !== undefined) {
      it('makes ECDSA signatures that OpenSSL verifies', () => {
        const { d, point } = generateEccKey(curve);
        const key = createPublicKey({
          key: { kty: 'EC', crv, x: point.x.toString('base64url'), y: point.y.toString('base64url') },
          format: 'jwk',
        });
        for (const hashName of ['sha1', 'sha256', 'sha384', 'sha512']) {
          const message = randomBytes(40);
          const { r, s } = ecdsaSign(curve, d, createHash(hashName).update(message).digest());
          assert.ok(verify(hashName, message, { key, dsaEncoding: 'ieee-p1363' }, Buffer.concat([r, s])));
        }
      });

      it('verifies ECDSA signatures that OpenSSL makes', () => {
        const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: crv });
        const jwk = publicKey.export({ format: 'jwk' });
        const point = { x: Buffer.from(jwk.x ?? '', 'base64url'), y: Buffer.from(jwk.y ?? '', 'base64url') };
        for (const hashName of ['sha1', 'sha256', 'sha384', 'sha512']) {
          const message = randomBytes(40);
          const bytes = sign(hashName, message, { key: privateKey, dsaEncoding: 'ieee-p1363' });
          const signature = { r: bytes.subarray(0, curve.orderBytes), s: bytes.subarray(curve.orderBytes) };
          assert.ok(ecdsaVerify(curve, point, createHash(hashName).update(message).digest(), signature));
        }
      });
    }
  });
}

describe('SM2', () => {
  it('verifies the example of GB/T 32918.5, annex A', () => {
    const hex = (text: string): Buffer => Buffer.from(text, 'hex');
    const curve = getCurve(TPM_ECC_CURVE.SM2_P256);
    const d = hex('3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8');
    const point = multiplyBase(curve, d);
    assert.equal(point.x.toString('hex'), '09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020');
    const digest = hex('f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640');
    const signature = {
      r: hex('f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3'),
      s: hex('b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa'),
    };
    assert.ok(sm2Verify(curve, point, digest, signature));
  });
});
