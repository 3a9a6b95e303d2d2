import assert from 'node:assert/strict';
import fc from 'fast-check';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_ST } from '../../src/tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';
import { decode, encode, type Schema } from '../../src/tpm/schema.js';
import * as structures from '../../src/tpm/structures/index.js';
import { Reader } from '../../src/tpm/wire.js';
import { arbitraryOf } from './arbitrary.js';

const isSchema = (value: unknown): value is Schema<unknown> =>
  typeof value === 'object' && value !== null && 'decode' in value && 'encode' in value && 'shape' in value;

const schemas = Object.entries<unknown>(structures).filter((entry): entry is [string, Schema<unknown>] => isSchema(entry[1]));

function codeOf(run: () => unknown): number {
  try {
    run();
  } catch (error) {
    if (error instanceof TpmError) return error.code;
    throw error;
  }
  return TPM_RC.SUCCESS;
}

describe('structures', () => {
  it('are all there', () => {
    assert.ok(schemas.length > 180, schemas.length.toString());
  });

  for (const [name, schema] of schemas) {
    describe(name, () => {
      it('encodes what it decodes', () => {
        fc.assert(
          fc.property(arbitraryOf(schema.shape), (bytes) => {
            const value = decode(schema, bytes);
            const again = encode(schema, value);
            assert.deepEqual(again, bytes);
            assert.deepEqual(decode(schema, again), value);
          }),
          { numRuns: 30 },
        );
      });

      it('refuses truncated bytes', () => {
        fc.assert(
          fc.property(arbitraryOf(schema.shape), fc.nat(), (bytes, at) => {
            const code = codeOf(() => decode(schema, bytes.subarray(0, at % bytes.length)));
            assert.ok(code === TPM_RC.INSUFFICIENT || code === TPM_RC.SIZE, code.toString(16));
          }),
          { numRuns: 30 },
        );
      });

      it('refuses one byte too many', () => {
        fc.assert(
          fc.property(arbitraryOf(schema.shape), (bytes) => {
            assert.equal(
              codeOf(() => decode(schema, Buffer.concat([bytes, Buffer.of(0)]))),
              TPM_RC.SIZE,
            );
          }),
          { numRuns: 5 },
        );
      });

      it('meets changed bytes with a value or a TpmError', () => {
        fc.assert(
          fc.property(arbitraryOf(schema.shape), fc.nat(), fc.nat(255), fc.boolean(), (bytes, at, byte, lenient) => {
            const changed = Buffer.from(bytes);
            changed[at % bytes.length] = byte;
            const reader = new Reader(changed, lenient);
            let value: unknown;
            if (codeOf(() => (value = schema.decode(reader))) !== TPM_RC.SUCCESS) return;
            assert.deepEqual(encode(schema, value), changed.subarray(0, reader.offset));
          }),
          { numRuns: 30 },
        );
      });
    });
  }
});

describe('error codes of structures', () => {
  const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex');
  const cases: [string, Pick<Schema<unknown>, 'decode'>, string, number][] = [
    ['hash', structures.TPMI_ALG_HASH, '0010', TPM_RC.HASH],
    ['hash or null', structures.TPMI_ALG_HASH_PLUS, '0012', TPM_RC.HASH],
    ['asymmetric', structures.TPMI_ALG_ASYM, '0008', TPM_RC.ASYMMETRIC],
    ['symmetric', structures.TPMI_ALG_SYM_PLUS, '0013', TPM_RC.SYMMETRIC],
    ['no XOR for objects', structures.TPMI_ALG_SYM_OBJECT, '000a', TPM_RC.SYMMETRIC],
    ['mode', structures.TPMI_ALG_SYM_MODE, '0010', TPM_RC.MODE],
    ['CMAC does not encrypt', structures.TPMI_ALG_CIPHER_MODE_PLUS, '003f', TPM_RC.MODE],
    ['MAC scheme', structures.TPMI_ALG_MAC_SCHEME, '0005', TPM_RC.SYMMETRIC],
    ['KDF', structures.TPMI_ALG_KDF, '0010', TPM_RC.KDF],
    ['signature scheme', structures.TPMI_ALG_SIG_SCHEME, '0010', TPM_RC.SCHEME],
    ['key exchange', structures.TPMI_ECC_KEY_EXCHANGE, '0018', TPM_RC.SCHEME],
    ['keyed hash scheme', structures.TPMI_ALG_KEYEDHASH_SCHEME_PLUS, '0014', TPM_RC.VALUE],
    ['RSA scheme', structures.TPMI_ALG_RSA_SCHEME_PLUS, '0018', TPM_RC.VALUE],
    ['RSA decryption', structures.TPMI_ALG_RSA_DECRYPT_PLUS, '0014', TPM_RC.VALUE],
    ['ECC scheme', structures.TPMI_ALG_ECC_SCHEME_PLUS, '0014', TPM_RC.SCHEME],
    ['type', structures.TPMI_ALG_PUBLIC, '0006', TPM_RC.TYPE],
    ['curve', structures.TPMI_ECC_CURVE, '0000', TPM_RC.CURVE],
    ['AES key size', structures.TPMI_AES_KEY_BITS, '00c0', TPM_RC.VALUE],
    ['RSA key size', structures.TPMI_RSA_KEY_BITS, '0401', TPM_RC.VALUE],
    ['no tag at all', structures.TPMT_TK_CREATION, '1234 40000007 0000', TPM_RC.VALUE],
    ["another ticket's tag", structures.TPMT_TK_CREATION, '8022 40000007 0000', TPM_RC.TAG],
    ['hierarchy of a ticket', structures.TPMT_TK_CREATION, '8021 4000000a 0000', TPM_RC.VALUE],
    ['command tag', structures.TPMI_ST_COMMAND_TAG, '8021', TPM_RC.BAD_TAG],
    ['reserved bits of an object', structures.TPMA_OBJECT_FIELD, '00000001', TPM_RC.RESERVED_BITS],
    ['reserved bits of an NV index', structures.TPMA_NV_FIELD, '00000100', TPM_RC.RESERVED_BITS],
    ['reserved bits of a session', structures.TPMA_SESSION_FIELD, '08', TPM_RC.RESERVED_BITS],
    ['short PCR bit map', structures.TPMS_PCR_SELECTION, '000b 02 0000', TPM_RC.VALUE],
    ['long PCR bit map', structures.TPMS_PCR_SELECTION, '000b 04 00000000', TPM_RC.VALUE],
    ['too many banks', structures.TPML_PCR_SELECTION, '00000005', TPM_RC.SIZE],
    ['one digest of PolicyOR', structures.TPML_DIGEST_OR, '00000001 0000', TPM_RC.SIZE],
    ['long digest', structures.TPM2B_DIGEST, '0041', TPM_RC.SIZE],
    ['empty public area', structures.TPM2B_PUBLIC, '0000', TPM_RC.SIZE],
    ['empty point', structures.TPM2B_ECC_POINT, '0000', TPM_RC.SIZE],
    ['size of a point too small', structures.TPM2B_ECC_POINT, '0003 0000 0000', TPM_RC.SIZE],
    ['size of a point too large', structures.TPM2B_ECC_POINT, '0005 0000 0000 00', TPM_RC.SIZE],
    ['size of a point beyond the end', structures.TPM2B_ECC_POINT, '0050 0000 0000', TPM_RC.SIZE],
    ['large NV index', structures.TPMS_NV_PUBLIC, '01000000 000b 00000000 0000 0801', TPM_RC.SIZE],
    ['clock step', structures.TPM_CLOCK_ADJUST_FIELD, '04', TPM_RC.VALUE],
    ['magic', structures.TPMS_ATTEST, 'ff544348', TPM_RC.VALUE],
    ['kind of attestation', structures.TPMI_ST_ATTEST, '8021', TPM_RC.SELECTOR],
    ['PCR 24', structures.TPMI_DH_PCR, '00000018', TPM_RC.VALUE],
    ['object', structures.TPMI_DH_OBJECT, '40000007', TPM_RC.VALUE],
    ['password without PLUS', structures.TPMI_SH_AUTH_SESSION, '40000009', TPM_RC.VALUE],
    ['HMAC session in place of a policy session', structures.TPMI_SH_POLICY, '02000000', TPM_RC.VALUE],
  ];
  for (const [name, schema, hex, code] of cases) {
    it(name, () => {
      assert.equal(
        codeOf(() => schema.decode(new Reader(bytes(hex)))),
        code,
      );
    });
  }
});

describe('values of structures', () => {
  it('narrow on their selector', () => {
    const area: structures.TPMT_PUBLIC = {
      type: TPM_ALG.ECC,
      nameAlg: TPM_ALG.SHA256,
      objectAttributes: 0x00040072,
      authPolicy: Buffer.alloc(0),
      parameters: {
        symmetric: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
        scheme: { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } },
        curveID: TPM_ECC_CURVE.NIST_P256,
        kdf: { scheme: TPM_ALG.NULL, details: null },
      },
      unique: { x: Buffer.alloc(0), y: Buffer.alloc(0) },
    };
    const bytes = encode(structures.TPMT_PUBLIC, area);
    assert.equal(bytes.toString('hex'), '0023000b00040072000000100018000b0003001000000000');
    const decoded = decode(structures.TPMT_PUBLIC, bytes);
    assert.equal(decoded.type === TPM_ALG.ECC ? decoded.parameters.curveID : undefined, TPM_ECC_CURVE.NIST_P256);
  });

  it('may be absent where the specification says so', () => {
    assert.equal(decode(structures.TPM2B_SENSITIVE, Buffer.of(0, 0)), null);
    assert.deepEqual(encode(structures.TPM2B_SENSITIVE, null), Buffer.of(0, 0));
  });

  it('take algorithms that are not ours from a chip', () => {
    const sm3 = Buffer.from('00000001001203000000', 'hex');
    assert.equal(
      codeOf(() => decode(structures.TPML_PCR_SELECTION, sm3)),
      TPM_RC.HASH,
    );
    assert.equal(decode(structures.TPML_PCR_SELECTION, sm3, true).length, 1);
  });

  it('keep the name algorithm NULL for loaded objects only', () => {
    const area = { type: TPM_ALG.KEYEDHASH, nameAlg: TPM_ALG.NULL, objectAttributes: 0, authPolicy: Buffer.alloc(0) } as const;
    const bytes = encode(structures.TPM2B_PUBLIC_PLUS, {
      ...area,
      parameters: { scheme: { scheme: TPM_ALG.NULL, details: null } },
      unique: Buffer.alloc(0),
    });
    assert.equal(
      codeOf(() => decode(structures.TPM2B_PUBLIC, bytes)),
      TPM_RC.HASH,
    );
    assert.equal(decode(structures.TPM2B_PUBLIC_PLUS, bytes).nameAlg, TPM_ALG.NULL);
  });

  it('have tickets with the tag that they are', () => {
    const ticket: structures.TPMT_TK_HASHCHECK = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: Buffer.alloc(0) };
    assert.equal(encode(structures.TPMT_TK_HASHCHECK, ticket).toString('hex'), '8024400000070000');
  });
});
