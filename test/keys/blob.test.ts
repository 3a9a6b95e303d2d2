import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { deriveBlobKey, openPrivate, sealPrivate } from '../../src/keys/blob.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';

const name = Buffer.concat([Buffer.of(0, 0x0b), randomBytes(32)]);
const parent = Buffer.concat([Buffer.of(0, 0x0b), randomBytes(32)]);
const blobKey = deriveBlobKey(randomBytes(32));
const contents = { engineId: 2, authValue: Buffer.from('guest password'), serialized: randomBytes(300) };
const refused = (open: () => unknown): void => {
  assert.throws(open, (error: unknown) => error instanceof TpmError && error.code === TPM_RC.INTEGRITY);
};

describe('private blob', () => {
  it('gives back what was sealed', () => {
    const blob = sealPrivate(blobKey, contents, name, parent);
    assert.deepEqual(openPrivate(blobKey, blob, name, parent), contents);
  });

  it('adds 18 bytes', () => {
    const blob = sealPrivate(blobKey, contents, name, parent);
    assert.equal(blob.length, contents.authValue.length + contents.serialized.length + 18);
  });

  it('shows nothing, and nothing of what two blobs have in common', () => {
    const one = sealPrivate(blobKey, contents, name, parent);
    assert.equal(one.includes(contents.authValue), false);
    const two = sealPrivate(blobKey, { ...contents, authValue: Buffer.from('guest passwors') }, name, parent);
    const equal = one.filter((byte, i) => byte === two[i]).length;
    assert.ok(equal < one.length / 8, `${equal.toString()} of ${one.length.toString()} bytes are equal`);
  });

  it('refuses any changed bit', () => {
    const blob = sealPrivate(blobKey, contents, name, parent);
    fc.assert(
      fc.property(fc.nat(blob.length - 1), fc.integer({ min: 0, max: 7 }), (at, bit) => {
        const changed = Buffer.from(blob);
        changed[at] = (changed[at] ?? 0) ^ (1 << bit);
        refused(() => openPrivate(blobKey, changed, name, parent));
      }),
    );
  });

  it('refuses any other length and any garbage', () => {
    const blob = sealPrivate(blobKey, contents, name, parent);
    for (let size = 0; size < blob.length; size++) refused(() => openPrivate(blobKey, blob.subarray(0, size), name, parent));
    refused(() => openPrivate(blobKey, Buffer.concat([blob, Buffer.of(0)]), name, parent));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        refused(() => openPrivate(blobKey, Buffer.from(bytes), name, parent));
      }),
    );
  });

  it('refuses another Name, another parent, another guest', () => {
    const blob = sealPrivate(blobKey, contents, name, parent);
    refused(() => openPrivate(blobKey, blob, parent, parent));
    refused(() => openPrivate(blobKey, blob, name, name));
    refused(() => openPrivate(deriveBlobKey(randomBytes(32)), blob, name, parent));
  });

  it('does not confuse the end of one Name with the beginning of the next', () => {
    const blob = sealPrivate(blobKey, contents, Buffer.from('ab'), Buffer.from('c'));
    refused(() => openPrivate(blobKey, blob, Buffer.from('a'), Buffer.from('bc')));
  });
});
