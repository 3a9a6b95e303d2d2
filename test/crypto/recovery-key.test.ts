import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { parseRecoveryPublicKey, publicKeyOf, RecoveryKeyError, unwrapSecret, wrapSecret } from '../../src/crypto/recovery-key.js';

interface Pair {
  readonly publicKey: string;
  readonly privateKey: string;
}

function makePair(): Pair {
  return generateKeyPairSync('x25519', {
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
}

function pemOf(point: Buffer): string {
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: point.toString('base64url') }, format: 'jwk' });
  return key.export({ type: 'spki', format: 'pem' }).toString();
}

describe('recovery keys', () => {
  const pair = makePair();
  const point = parseRecoveryPublicKey(pair.publicKey);

  it('open what was wrapped for them, with the same context only', async () => {
    assert.deepEqual(publicKeyOf(pair.privateKey), point);
    const bytes = fc.uint8Array({ maxLength: 100 }).map((array) => Buffer.from(array));
    await fc.assert(
      fc.asyncProperty(bytes, fc.string(), fc.string(), async (secret, context, other) => {
        const wrapped = await wrapSecret(point, secret, context);
        assert.deepEqual(await unwrapSecret(pair.privateKey, wrapped, context), secret);
        if (other !== context) await assert.rejects(unwrapSecret(pair.privateKey, wrapped, other), RecoveryKeyError);
      }),
      { numRuns: 50 },
    );
  });

  it('open nothing that is changed, cut or wrapped for another', async () => {
    const wrapped = await wrapSecret(point, Buffer.from('secret'), 'context');
    for (let at = 0; at < wrapped.length; at++) {
      const changed = Buffer.from(wrapped);
      changed[at] = (changed[at] ?? 0) ^ 1;
      await assert.rejects(unwrapSecret(pair.privateKey, changed, 'context'), RecoveryKeyError, `byte ${at.toString()}`);
      await assert.rejects(unwrapSecret(pair.privateKey, wrapped.subarray(0, at), 'context'), RecoveryKeyError);
    }
    await assert.rejects(unwrapSecret(makePair().privateKey, wrapped, 'context'), /not the key that this was wrapped for/);
  });

  it('are X25519 keys of full order, in PEM', () => {
    assert.throws(() => parseRecoveryPublicKey(pair.privateKey), /it is a private key/);
    assert.throws(() => parseRecoveryPublicKey('rubbish'), /not a public key in PEM/);
    const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ type: 'spki', format: 'pem' }).toString();
    assert.throws(() => parseRecoveryPublicKey(ec), /of type ec, not x25519/);
    assert.throws(() => parseRecoveryPublicKey(pemOf(Buffer.alloc(32))), /small order/);
    assert.throws(() => parseRecoveryPublicKey(pemOf(Buffer.concat([Buffer.of(1), Buffer.alloc(31)]))), /small order/);
  });
});
