// The DER reader and writer, against each other and against bytes from anywhere.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import {
  bitString,
  DER_TAG,
  element,
  integer,
  nullElement,
  objectIdentifier,
  readBits,
  readElement,
  readElements,
  sequence,
  smallInteger,
} from '../../src/crypto/der.js';

const bytes = fc.uint8Array({ maxLength: 400 }).map((array) => Buffer.from(array));

describe('DER', () => {
  it('reads what it writes', () => {
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 5 }), (contents) => {
        const made = contents.map((content) => element(DER_TAG.OCTET_STRING, content));
        const outer = readElement(sequence(...made));
        assert.ok(outer);
        assert.deepEqual(
          readElements(outer.content)?.map(({ content }) => content),
          contents,
        );
        assert.deepEqual(outer.encoded, sequence(...made));
      }),
    );
  });

  it('any bytes are read whole or refused', () => {
    fc.assert(
      fc.property(bytes, (input) => {
        const elements = readElements(input);
        if (elements !== undefined) assert.deepEqual(Buffer.concat(elements.map(({ tag, content }) => element(tag, content))), input);
        for (const one of elements ?? []) readBits(one);
      }),
    );
  });

  it('lengths that are not the shortest, not there or not definite are refused', () => {
    for (const hex of [
      '',
      '30',
      '3080',
      '308000',
      '308100',
      '30810500',
      '30820001',
      '308200ff',
      '3083000001',
      '3005',
      '1f0100',
      '3f810000',
    ]) {
      assert.equal(readElement(Buffer.from(hex, 'hex')), undefined, hex);
    }
  });

  it('integers are positive and shortest', () => {
    const hex = (number: string): string => integer(Buffer.from(number, 'hex')).toString('hex');
    assert.deepEqual([hex(''), hex('00'), hex('7f'), hex('80'), hex('0000ff01')], ['020100', '020100', '02017f', '02020080', '020300ff01']);
    assert.equal(smallInteger(65537).toString('hex'), '0203010001');
    assert.throws(() => element(DER_TAG.OCTET_STRING, Buffer.alloc(65536)), RangeError);
  });

  it('bit strings of at most 32 bits', () => {
    const read = (hex: string): number | undefined =>
      readBits({ tag: DER_TAG.BIT_STRING, content: Buffer.from(hex, 'hex'), encoded: Buffer.alloc(0) });
    assert.deepEqual(
      [read('00'), read('0780'), read('00ff'), read('07ffff'), read('0012345678')],
      [0, 0x80000000, 0xff000000, 0xff800000, 0x12345678],
    );
    assert.deepEqual([read(''), read('01'), read('0880'), read('000102030405')], [undefined, undefined, undefined, undefined]);
  });

  it('writes the public key that OpenSSL writes', () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const { n = '', e = '' } = publicKey.export({ format: 'jwk' });
    const numbers = sequence(integer(Buffer.from(n, 'base64url')), integer(Buffer.from(e, 'base64url')));
    const made = sequence(sequence(objectIdentifier('1.2.840.113549.1.1.1'), nullElement), bitString(numbers));
    assert.deepEqual(made, publicKey.export({ format: 'der', type: 'spki' }));
  });
});
