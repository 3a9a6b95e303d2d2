import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { encapsulate } from '../../src/crypto/secrets.js';
import { TPM_ALG, TPM_CC, TPM_RH, TPM_SE, TPMA_SESSION } from '../../src/tpm/constants/index.js';
import { hash } from '../../src/tpm/hash.js';
import { nameOfHandle } from '../../src/tpm/name.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';
import { decode, encode } from '../../src/tpm/schema.js';
import { Reader } from '../../src/tpm/wire.js';
import { cpHash, cryptParameter, rpHash, sessionHmac, sessionKey, trimAuth, type ParameterCipher } from '../../src/tpm/session-crypto.js';
import { TPMT_PUBLIC, TPMT_SYM_DEF_PLUS } from '../../src/tpm/structures/index.js';
import { RawTpm, sizedBytes, u16, u32 } from '../support/raw-tpm.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { asParent, eccTemplate, rsaTemplate } from '../support/templates.js';

const symmetric: readonly TPMT_SYM_DEF_PLUS[] = [
  { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB },
  { algorithm: TPM_ALG.AES, keyBits: 256, mode: TPM_ALG.CFB },
  { algorithm: TPM_ALG.CAMELLIA, keyBits: 128, mode: TPM_ALG.CFB },
  { algorithm: TPM_ALG.XOR, keyBits: TPM_ALG.SHA256, mode: null },
];

/** The caller's end of one session, of the functions under test. */
class CallerSession {
  readonly handle: number;
  private readonly alg: number;
  private readonly cipher: ParameterCipher;
  private readonly key: Buffer;
  private nonceTPM: Buffer;

  constructor(handle: number, alg: number, cipher: ParameterCipher, key: Buffer, nonceTPM: Buffer) {
    this.handle = handle;
    this.alg = alg;
    this.cipher = cipher;
    this.key = key;
    this.nonceTPM = nonceTPM;
  }

  /** Sends a command whose first request and response parameters are sized, and returns its response parameters in clear. */
  async run(tpm: RawTpm, code: number, handles: number[], auth: Buffer, parameters: Buffer, attributes: number): Promise<Buffer> {
    const nonceCaller = randomBytes(16);
    const key = Buffer.concat([this.key, auth]);
    const common = { alg: this.alg, symmetric: this.cipher, key };
    const sent = Buffer.from(parameters);
    if ((attributes & TPMA_SESSION.decrypt) !== 0) {
      cryptParameter('encrypt', { ...common, nonceNewer: nonceCaller, nonceOlder: this.nonceTPM }, sent);
    }
    const mac = sessionHmac({
      ...{ alg: this.alg, key, nonceNewer: nonceCaller, nonceOlder: this.nonceTPM, sessionAttributes: attributes },
      pHash: cpHash(this.alg, code, handles.map(nameOfHandle), sent),
    });
    const area = Buffer.concat([u32(this.handle), sizedBytes(nonceCaller), Buffer.of(attributes), sizedBytes(mac)]);
    const response = await tpm.run({ code, handles, sessions: area, parameters: sent });
    const reader = new Reader(response.sessions);
    this.nonceTPM = Buffer.from(reader.view(reader.uint16()));
    const sessionAttributes = reader.uint8();
    const received = Buffer.from(response.parameters);
    const expected = sessionHmac({
      ...{ alg: this.alg, key, nonceNewer: this.nonceTPM, nonceOlder: nonceCaller, sessionAttributes },
      pHash: rpHash(this.alg, 0, code, received),
    });
    assert.deepEqual(reader.view(reader.uint16()), expected);
    if ((attributes & TPMA_SESSION.encrypt) !== 0) {
      cryptParameter('decrypt', { ...common, nonceNewer: this.nonceTPM, nonceOlder: nonceCaller }, received);
    }
    return received;
  }
}

describe('sessions with a real TPM', () => {
  let swtpm: Swtpm;
  let tpm: RawTpm;
  before(async () => {
    swtpm = await startSwtpm();
    tpm = new RawTpm(swtpm.data);
  });
  after(async () => {
    tpm.close();
    await swtpm.stop();
  });

  async function startSession(
    tpmKey: number,
    bind: number,
    bindAuth: Buffer | undefined,
    salt: { secret: Buffer; encrypted: Buffer },
    cipher: TPMT_SYM_DEF_PLUS,
    alg: number,
  ): Promise<CallerSession> {
    const nonceCaller = randomBytes(16);
    const { handle, parameters } = await tpm.run({
      code: TPM_CC.StartAuthSession,
      handles: [tpmKey, bind],
      parameters: Buffer.concat([
        sizedBytes(nonceCaller),
        sizedBytes(salt.encrypted),
        Buffer.of(TPM_SE.HMAC),
        encode(TPMT_SYM_DEF_PLUS, cipher),
        u16(alg),
      ]),
      returnsHandle: true,
    });
    const nonceTPM = Buffer.from(parameters.subarray(2));
    const key = sessionKey(alg, bindAuth, salt.secret, nonceTPM, nonceCaller);
    return new CallerSession(handle, alg, cipher, key, nonceTPM);
  }

  const unsalted = { secret: Buffer.alloc(0), encrypted: Buffer.alloc(0) };

  for (const [type, template] of [
    ['RSA', asParent(rsaTemplate())],
    ['ECC', asParent(eccTemplate())],
  ] as const) {
    it(`salted with an ${type} key: HMAC, parameter encryption in both directions, all ciphers`, async () => {
      const { handle, parameters } = await tpm.run({
        code: TPM_CC.CreatePrimary,
        handles: [TPM_RH.OWNER],
        sessions: 1,
        parameters: Buffer.concat([sizedBytes(u16(0), u16(0)), sizedBytes(encode(TPMT_PUBLIC, template)), u16(0), u32(0)]),
        returnsHandle: true,
      });
      const publicArea = decode(TPMT_PUBLIC, parameters.subarray(2, 2 + parameters.readUInt16BE(0)));
      for (const cipher of symmetric) {
        for (const alg of [TPM_ALG.SHA1, TPM_ALG.SHA256, TPM_ALG.SHA384]) {
          const session = await startSession(handle, TPM_RH.NULL, undefined, encapsulate(publicArea, 'SECRET'), cipher, alg);
          const encrypted = TPMA_SESSION.continueSession | TPMA_SESSION.encrypt;
          const random = await session.run(tpm, TPM_CC.GetRandom, [], Buffer.alloc(0), u16(24), encrypted);
          assert.equal(random.readUInt16BE(0), 24);
          const both = encrypted | TPMA_SESSION.decrypt;
          const data = sizedBytes(Buffer.from('The first parameter, longer than one block'));
          const hashed = await session.run(
            tpm,
            TPM_CC.Hash,
            [],
            Buffer.alloc(0),
            Buffer.concat([data, u16(TPM_ALG.SHA256), u32(TPM_RH.NULL)]),
            both & ~TPMA_SESSION.continueSession,
          );
          assert.deepEqual(hashed.subarray(2, 34), hash(TPM_ALG.SHA256, data.subarray(2)));
        }
      }
      await tpm.run({ code: TPM_CC.FlushContext, parameters: u32(handle) });
    });
  }

  it('bound to a hierarchy, whose authorization value has trailing zeros', async () => {
    const auth = Buffer.from('706173730000', 'hex');
    await tpm.run({ code: TPM_CC.HierarchyChangeAuth, handles: [TPM_RH.PLATFORM], sessions: 1, parameters: sizedBytes(auth) });
    const cipher = symmetric[0] ?? assert.fail();
    const session = await startSession(TPM_RH.NULL, TPM_RH.PLATFORM, trimAuth(auth), unsalted, cipher, TPM_ALG.SHA256);
    const attributes = TPMA_SESSION.continueSession | TPMA_SESSION.decrypt;
    // The session is bound to the entity it authorizes, so its HMAC key leaves the authorization value out.
    const reset = sizedBytes(Buffer.alloc(0));
    await assert.rejects(session.run(tpm, TPM_CC.HierarchyChangeAuth, [TPM_RH.PLATFORM], trimAuth(auth), reset, 1), /response 0x9a2/);
    const empty = Buffer.alloc(0);
    await session.run(tpm, TPM_CC.HierarchyChangeAuth, [TPM_RH.PLATFORM], empty, reset, attributes & ~TPMA_SESSION.decrypt);
  });

  it('neither bound nor salted: the session key is empty', () => {
    assert.equal(sessionKey(TPM_ALG.SHA256, undefined, Buffer.alloc(0), Buffer.alloc(16), Buffer.alloc(16)).length, 0);
    assert.equal(sessionKey(TPM_ALG.SHA256, Buffer.alloc(0), Buffer.alloc(0), Buffer.alloc(16), Buffer.alloc(16)).length, 32);
  });
});

describe('cryptParameter', () => {
  const input = { alg: TPM_ALG.SHA256, key: Buffer.alloc(4), nonceNewer: Buffer.alloc(16), nonceOlder: Buffer.alloc(16) };
  const aes = { algorithm: TPM_ALG.AES, keyBits: 128 };
  const fails = (parameters: string, cipher: ParameterCipher, code: number): void => {
    assert.throws(
      () => {
        cryptParameter('decrypt', { ...input, symmetric: cipher }, Buffer.from(parameters, 'hex'));
      },
      (error) => error instanceof TpmError && error.code === code,
    );
  };

  it('refuses a size that exceeds the area', () => {
    fails('000401', aes, TPM_RC.SIZE);
    fails('00', aes, TPM_RC.INSUFFICIENT);
    fails('', aes, TPM_RC.INSUFFICIENT);
  });

  it('refuses a session without a cipher', () => {
    fails('000101', { algorithm: TPM_ALG.NULL, keyBits: null }, TPM_RC.SYMMETRIC);
  });

  it('leaves what follows the first parameter alone', () => {
    const bytes = Buffer.from('0002aabbccdd', 'hex');
    cryptParameter('encrypt', { ...input, symmetric: aes }, bytes);
    assert.equal(bytes.subarray(4).toString('hex'), 'ccdd');
    cryptParameter('decrypt', { ...input, symmetric: aes }, bytes);
    assert.equal(bytes.toString('hex'), '0002aabbccdd');
  });
});
