import assert from 'node:assert/strict';
import fc from 'fast-check';
import { authenticodeParts } from '../../src/statements/authenticode.js';
import { PropertyError } from '../../src/statements/property-error.js';
import { hash } from '../../src/tpm/hash.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';

const PE = 0x80;
const OPTIONAL = PE + 24;
const HEADERS = 0x200;
const SECTION = 0x100;
const CERTIFICATES = 0x40;

/** A PE32+ image: its second section is first in the file, data follows the sections, and a certificate table ends it. */
function peImage({ signed = true } = {}): Buffer {
  const image = Buffer.alloc(HEADERS + 2 * SECTION + 0x20 + (signed ? CERTIFICATES : 0));
  for (let i = 0; i < image.length; i++) image[i] = (i * 7) & 0xff;
  image.fill(0, 0, HEADERS);
  image.write('MZ');
  image.writeUInt32LE(PE, 0x3c);
  image.write('PE\0\0', PE);
  image.writeUInt16LE(2, PE + 6);
  image.writeUInt16LE(240, PE + 20);
  image.writeUInt16LE(0x20b, OPTIONAL);
  image.writeUInt32LE(HEADERS, OPTIONAL + 60);
  image.writeUInt32LE(16, OPTIONAL + 108);
  if (signed) {
    image.writeUInt32LE(image.length - CERTIFICATES, OPTIONAL + 112 + 32);
    image.writeUInt32LE(CERTIFICATES, OPTIONAL + 112 + 36);
  }
  const table = OPTIONAL + 240;
  [HEADERS + SECTION, HEADERS].forEach((start, i) => {
    image.writeUInt32LE(SECTION, table + i * 40 + 16);
    image.writeUInt32LE(start, table + i * 40 + 20);
  });
  return image;
}

const digest = (image: Buffer): string => hash(TPM_ALG.SHA256, ...authenticodeParts(image)).toString('hex');
/** What a signature changes: checksum, entry of the certificate table, the table itself. */
const mayChange = (at: number, length: number): boolean =>
  (at >= OPTIONAL + 64 && at < OPTIONAL + 68) || (at >= OPTIONAL + 144 && at < OPTIONAL + 152) || at >= length - CERTIFICATES;

describe('the Authenticode digest', () => {
  it('is that of all bytes but checksum, entry of the certificate table, and certificates', () => {
    const image = peImage();
    const expected = [...image].filter((_, at) => !mayChange(at, image.length));
    assert.equal(digest(image), hash(TPM_ALG.SHA256, Buffer.from(expected)).toString('hex'));
  });

  it('is the same with and without signatures', () => {
    assert.equal(digest(peImage()), digest(peImage({ signed: false })));
  });

  it('takes sections in the order of the file', () => {
    const parts = authenticodeParts(peImage());
    assert.deepEqual(parts.slice(3, 5), [
      peImage().subarray(HEADERS, HEADERS + SECTION),
      peImage().subarray(HEADERS + SECTION, HEADERS + 2 * SECTION),
    ]);
  });

  it('is refused for what is no such image, whatever it is', () => {
    const refusedOrDigest = (bytes: Buffer): void => {
      try {
        digest(bytes);
      } catch (error) {
        assert.ok(error instanceof PropertyError, String(error));
      }
    };
    for (const bytes of [Buffer.alloc(0), Buffer.from('MZ'), Buffer.from('#!/bin/sh\n'.repeat(20)), peImage().subarray(0, HEADERS + 8)])
      assert.throws(() => digest(bytes), PropertyError);
    const edits = fc.array(fc.tuple(fc.nat(HEADERS - 1), fc.nat(255)), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(edits, fc.nat(HEADERS + 2 * SECTION), (changes, size) => {
        const image = peImage();
        for (const [at, value] of changes) image[at] = value;
        refusedOrDigest(image);
        refusedOrDigest(image.subarray(0, size));
      }),
    );
  });
});
