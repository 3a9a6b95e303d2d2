// Legal and illegal inputs of a guest that a chip may take otherwise than the guest's TPM has to: beside swtpm, with the same keys, which
// in ours are in a chip. None of them may be refused by the chip: what is wrong is known before.
import assert from 'node:assert/strict';
import { constants, generateKeyPairSync, type JsonWebKey, type KeyObject, publicEncrypt } from 'node:crypto';
import type { Account } from '../../src/hardware/chip/usage.js';
import type { Request } from '../../src/tpm/command.js';
import * as Commands from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_ST, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { digestSize, hash } from '../../src/tpm/hash.js';
import { atParameter, TPM_RC } from '../../src/tpm/response-code.js';
import { encode, sized } from '../../src/tpm/schema.js';
import { TPMT_SENSITIVE, type TPMI_ALG_HASH, type TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { Bench } from '../hardware/fixture.js';
import { openChipGuest } from '../support/chip-guest.js';
import { assertSame, assertSameCode, type Both, Differential, FrameSwtpm } from '../support/differential.js';
import { type AnyCommand, codeOf, frame, none, parse } from '../support/frames.js';
import { asParent, cipherTemplate, eccTemplate, hmacTemplate, rsaTemplate, sealTemplate } from '../support/templates.js';

const SENSITIVE = sized(TPMT_SENSITIVE);
const noCipher = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
const RAW = { scheme: TPM_ALG.NULL, details: null } as const;
const RSAES = { scheme: TPM_ALG.RSAES, details: null } as const;
const GENERAL = TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign | TPMA_OBJECT.decrypt;
const HASHES = [TPM_ALG.SHA1, TPM_ALG.SHA256, TPM_ALG.SHA384, TPM_ALG.SHA512] as const;
const SEED = Buffer.alloc(32, 3);
/** The prime field of P-256. */
const FIELD = (1n << 256n) - (1n << 224n) + (1n << 192n) + (1n << 96n) - 1n;

const oaep = (hashAlg: TPMI_ALG_HASH) => ({ scheme: TPM_ALG.OAEP, details: { hashAlg } }) as const;
const bytesOf = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');
const numberOf = (bytes: Buffer): bigint => BigInt(`0x${bytes.toString('hex')}`);
const toBytes = (value: bigint, size: number): Buffer => Buffer.from(value.toString(16).padStart(size * 2, '0'), 'hex');
const zeros = (count: number, bytes: Buffer): Buffer => Buffer.concat([Buffer.alloc(count), bytes]);

const ecPublic = (x: Buffer, y: Buffer): TPMT_PUBLIC => ({
  ...eccTemplate(TPM_ECC_CURVE.NIST_P256),
  objectAttributes: GENERAL,
  unique: { x, y },
});
/** A new key of P-256 that has a zero as the first byte of this member. */
function ecKeyWithZero(member: 'x' | 'd'): JsonWebKey {
  for (;;) {
    const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
    if (bytesOf(jwk[member])[0] === 0) return jwk;
  }
}

describe('what a chip may refuse', function () {
  this.timeout(60_000);
  let bench: Bench;
  let both: Differential;
  let account: Account;
  let parentHandle: number;

  before(async () => {
    bench = await Bench.start();
    const ours = await openChipGuest(await bench.open(), 'edges');
    account = ours.account;
    both = new Differential(ours, await FrameSwtpm.start());
    const inSensitive = { userAuth: none, data: none };
    const inPublic = asParent(eccTemplate(TPM_ECC_CURVE.NIST_P256));
    const request = { primaryHandle: TPM_RH.OWNER, inSensitive, inPublic, outsideInfo: none, creationPCR: [] };
    parentHandle = (await both.run(Commands.CreatePrimary, request)).ours.objectHandle;
  });
  afterEach(() => {
    assert.deepEqual([...account.refusals], [], 'the chip refused something');
    assert.deepEqual(both.ours.failures, []);
  });
  after(async () => {
    await both.stop();
    await bench.stop();
  });

  const send = <C extends AnyCommand>(command: C, request: Request<C>): Promise<Both> => both.both(frame(command, request));
  const importKey = (objectPublic: TPMT_PUBLIC, sensitive: Buffer, seedValue = none): Promise<Both> => {
    const duplicate = encode(SENSITIVE, { sensitiveType: objectPublic.type, authValue: none, seedValue, sensitive });
    const request = { parentHandle, encryptionKey: none, objectPublic, duplicate, inSymSeed: none, symmetricAlg: noCipher };
    return send(Commands.Import, request);
  };
  /** Imports a key into both and uses it with one handle. */
  const withKey = async (inPublic: TPMT_PUBLIC, secret: Buffer, use: (keyHandle: number) => Promise<void>, seed = none): Promise<void> => {
    const imported = await importKey(inPublic, secret, seed);
    assertSameCode(imported, 'Import');
    const load = (answer: Buffer): Buffer => {
      const { out } = parse(Commands.Import, answer);
      assert.ok(out, codeOf(answer).toString(16));
      return frame(Commands.Load, { parentHandle, inPrivate: out.outPrivate, inPublic });
    };
    const ours = await both.ours.execute(load(imported.ours));
    const theirs = await both.theirs.execute(load(imported.theirs));
    assertSame({ ours, theirs }, 'Load');
    const keyHandle = parse(Commands.Load, ours).out?.objectHandle ?? 0;
    await use(keyHandle);
    await both.code(Commands.FlushContext, { flushHandle: keyHandle });
  };

  describe('RSA', () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const jwk = privateKey.export({ format: 'jwk' });
    const modulus = bytesOf(jwk.n);
    const prime = bytesOf(jwk.p);
    const area = { ...rsaTemplate(2048), objectAttributes: GENERAL, unique: modulus };
    const encrypted = (key: KeyObject, hashAlg: string, label: Buffer, message: Buffer): Buffer =>
      publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: hashAlg, oaepLabel: label }, message);

    it('cipher texts of any value and size; swtpm says FAILURE to what OpenSSL does not take', async () => {
      await withKey(area, prime, async (keyHandle) => {
        for (const inScheme of [RAW, RSAES, ...HASHES.map(oaep)]) {
          for (const size of [0, 1, 255, 257]) {
            const request = { keyHandle, cipherText: Buffer.alloc(size, 1), inScheme, label: none };
            assertSame(await send(Commands.RSA_Decrypt, request), `${inScheme.scheme.toString()}, ${size.toString()} bytes`);
          }
          for (const value of [modulus, Buffer.alloc(256, 0xff)]) {
            const { ours, theirs } = await send(Commands.RSA_Decrypt, { keyHandle, cipherText: value, inScheme, label: none });
            assert.deepEqual([codeOf(ours), codeOf(theirs)], [atParameter(TPM_RC.VALUE, 1), TPM_RC.FAILURE]);
          }
          for (const value of [Buffer.alloc(256), zeros(255, Buffer.of(1)), Buffer.alloc(256, 0x55)]) {
            const answers = await send(Commands.RSA_Decrypt, { keyHandle, cipherText: value, inScheme, label: none });
            if (inScheme === RAW) assertSame(answers);
            else assert.deepEqual([codeOf(answers.ours), codeOf(answers.theirs)], [TPM_RC.VALUE, TPM_RC.FAILURE]);
          }
        }
      });
    });

    it('messages and labels, empty and long', async () => {
      await withKey(area, prime, async (keyHandle) => {
        const labels = [none, Buffer.of(0), Buffer.from('a\0b\0'), zeros(0, Buffer.concat([Buffer.alloc(65, 0x41), Buffer.of(0)]))];
        for (const [hashAlg, name] of [
          [TPM_ALG.SHA1, 'sha1'],
          [TPM_ALG.SHA256, 'sha256'],
          [TPM_ALG.SHA512, 'sha512'],
        ] as const) {
          for (const label of labels) {
            for (const message of [none, Buffer.from('hello')]) {
              const cipherText = encrypted(publicKey, name, label, message);
              const answers = await send(Commands.RSA_Decrypt, { keyHandle, cipherText, inScheme: oaep(hashAlg), label });
              assertSame(answers, `${name}, label ${label.toString('hex')}`);
            }
          }
        }
        for (const message of [none, Buffer.alloc(245, 1)]) {
          const cipherText = publicEncrypt({ key: publicKey, padding: constants.RSA_PKCS1_PADDING }, message);
          const request = { keyHandle, cipherText, inScheme: RSAES, label: none };
          assertSame(await send(Commands.RSA_Decrypt, request));
        }
      });
    });

    it('digests of every hash, and of a wrong size, with keys of 1024 and 2048 bits', async () => {
      const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({ format: 'jwk' });
      const keys: readonly (readonly [TPMT_PUBLIC, Buffer])[] = [
        [area, prime],
        [{ ...rsaTemplate(1024), objectAttributes: GENERAL, unique: bytesOf(small.n) }, bytesOf(small.p)],
      ];
      for (const [inPublic, secret] of keys) {
        await withKey(inPublic, secret, async (keyHandle) => {
          for (const scheme of [TPM_ALG.RSASSA, TPM_ALG.RSAPSS] as const) {
            for (const hashAlg of HASHES) {
              for (const more of [-1, 0, 1]) {
                const digest = Buffer.alloc(digestSize(hashAlg) + more, 7);
                const request = { keyHandle, digest, inScheme: { scheme, details: { hashAlg } }, validation: noTicket } as const;
                assertSameCode(await send(Commands.Sign, request), `${scheme.toString()}, ${hashAlg.toString()}, ${more.toString()}`);
              }
            }
          }
        });
      }
    });

    it('numbers that are no key: ours says so at Import, swtpm at Load or never', async () => {
      const p = numberOf(prime);
      const q = numberOf(bytesOf(jwk.q));
      const dividing = ((3n << 1022n) / 65537n) * 65537n + 1n;
      const ofExponent = dividing % 2n === 0n ? dividing + 65537n : dividing;
      for (const [what, n] of [
        ['a modulus that the prime does not divide', p * q + 2n],
        ['the square of the prime', p * p],
        ['no private exponent', p * ofExponent],
      ] as const) {
        const { ours } = await importKey({ ...area, unique: toBytes(n, 256) }, prime);
        assert.equal(codeOf(ours), TPM_RC.BINDING, what);
      }
    });

    it('exponents, which few chips have but 65537', async () => {
      for (const exponent of [0, 17, 65537, 65539]) {
        await withKey({ ...area, parameters: { ...area.parameters, exponent } }, prime, async (keyHandle) => {
          const request = { keyHandle, cipherText: Buffer.alloc(256, 1), inScheme: RAW, label: none };
          assertSame(await send(Commands.RSA_Decrypt, request), exponent.toString());
        });
      }
    });
  });

  describe('ECC', () => {
    const ZGEN = async (keyHandle: number, x: Buffer, y: Buffer, what: string): Promise<void> => {
      assertSame(await send(Commands.ECDH_ZGen, { keyHandle, inPoint: { x, y } }), what);
    };

    it('coordinates and scalars with zeros before them, or without those that belong there', async () => {
      const withX = ecKeyWithZero('x');
      const withD = ecKeyWithZero('d');
      const plain = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
      const cases = [withX, withD, plain].flatMap((jwk) => {
        const [x, y, d] = [bytesOf(jwk.x), bytesOf(jwk.y), bytesOf(jwk.d)];
        const short = (bytes: Buffer): Buffer => (bytes[0] === 0 ? bytes.subarray(1) : bytes);
        return [
          [x, y, d],
          [short(x), y, short(d)],
          [zeros(1, x), zeros(2, y), zeros(1, d)],
        ] as const;
      });
      for (const [x, y, d] of cases) {
        await withKey(ecPublic(x, y), d, async (keyHandle) => {
          await ZGEN(keyHandle, x, y, 'its own point');
          for (const hashAlg of HASHES) {
            const digest = Buffer.alloc(digestSize(hashAlg), 7);
            const request = { keyHandle, digest, inScheme: { scheme: TPM_ALG.ECDSA, details: { hashAlg } }, validation: noTicket } as const;
            assertSameCode(await send(Commands.Sign, request), hashAlg.toString());
          }
        });
      }
    });

    it('points of any size and value', async () => {
      const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
      const [x, y] = [bytesOf(jwk.x), bytesOf(jwk.y)];
      await withKey(ecPublic(x, y), bytesOf(jwk.d), async (keyHandle) => {
        for (const count of [1, 16, 47, 48]) await ZGEN(keyHandle, zeros(count, x), y, `${count.toString()} zeros`);
        await ZGEN(keyHandle, toBytes(numberOf(x) + FIELD, 33), y, 'beyond the field');
        await ZGEN(keyHandle, x, x, 'not on the curve');
        await ZGEN(keyHandle, none, none, 'nothing');
        for (const size of [1, 32, 80]) {
          await ZGEN(keyHandle, Buffer.alloc(size), Buffer.alloc(size), 'zero');
          await ZGEN(keyHandle, Buffer.alloc(size, 0xff), Buffer.alloc(size, 0xff), 'ones');
        }
      });
    });
  });

  it('sealed data and keys of symmetric algorithms of any size, empty included', async () => {
    const signing = TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign;
    for (const size of [0, 1, 64, 128]) {
      const data = Buffer.alloc(size, 9);
      const unique = hash(TPM_ALG.SHA256, SEED, data);
      const unseal = async (itemHandle: number): Promise<void> => {
        assertSame(await send(Commands.Unseal, { itemHandle }), size.toString());
      };
      await withKey({ ...sealTemplate(), unique }, data, unseal, SEED);
      if (size > 64) continue;
      const hmac = { ...hmacTemplate(), objectAttributes: signing, unique };
      const compute = async (handle: number): Promise<void> => {
        assertSame(await send(Commands.HMAC, { handle, buffer: Buffer.from('m'), hashAlg: TPM_ALG.SHA256 }), size.toString());
      };
      await withKey(hmac, data, compute, SEED);
    }
    const key = Buffer.alloc(16, 1);
    const cipher = { ...cipherTemplate(), objectAttributes: GENERAL, unique: hash(TPM_ALG.SHA256, SEED, key) };
    await withKey(cipher, key, () => Promise.resolve(), SEED);
  });
});
