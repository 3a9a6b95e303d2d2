// NV_Certify, side by side with swtpm.
import assert from 'node:assert/strict';
import { createPublicKey, verify } from 'node:crypto';
import {
  CreatePrimary,
  LoadExternal,
  NV_Certify,
  NV_DefineSpace,
  NV_ReadLock,
  NV_UndefineSpace,
  NV_Write,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_NT, TPM_RH, TPM_ST, TPMA_NV, TPMA_NV_NT_SHIFT, TPMA_OBJECT, TPMA_SESSION } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import { nameOfNvPublic } from '../../../src/tpm/name.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { decode } from '../../../src/tpm/schema.js';
import { TPMS_ATTEST, type TPMT_PUBLIC } from '../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../support/differential.js';
import { frame, none, password, run } from '../../support/frames.js';
import { aesCfb, ClientSession, runWithSessions } from '../../support/sessions.js';
import { eccTemplate, hmacTemplate, rsaTemplate } from '../../support/templates.js';

const { SHA256, SHA384, ECDSA, RSASSA, HMAC, NULL } = TPM_ALG;
const INDEX = 0x01500001;
const PLATFORM_INDEX = 0x01400001;
const nullScheme = { scheme: NULL, details: null } as const;
const content = Buffer.from('what the index holds, forty bytes of it');

describe('NV_Certify', () => {
  let both: Differential;
  /** Handles of keys: an ECC key, an RSA key, an HMAC key. A swtpm has no room for more. */
  let keys: number[];
  before(async () => {
    both = await startDifferential();
    keys = [];
    const signing = TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.sign;
    for (const inPublic of [
      { ...eccTemplate(), objectAttributes: signing },
      {
        ...rsaTemplate(),
        objectAttributes: signing,
        parameters: { ...rsaTemplate().parameters, scheme: { scheme: RSASSA, details: { hashAlg: SHA256 } } },
      },
    ] as TPMT_PUBLIC[]) {
      const inSensitive = { userAuth: Buffer.from('key'), data: none };
      const request = { primaryHandle: TPM_RH.ENDORSEMENT, inSensitive, inPublic, outsideInfo: none, creationPCR: [] };
      const { ours } = await both.run(CreatePrimary, request);
      keys.push(ours.objectHandle);
    }
    const seedValue = Buffer.alloc(32, 1);
    const sensitive = Buffer.alloc(20, 2);
    const objectAttributes = TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign;
    const inPublic = { ...hmacTemplate(), objectAttributes, unique: hash(SHA256, seedValue, sensitive) };
    const inPrivate = { sensitiveType: TPM_ALG.KEYEDHASH, authValue: Buffer.from('key'), seedValue, sensitive } as const;
    const { objectHandle } = await both.runSame(LoadExternal, { inPrivate, inPublic, hierarchy: TPM_RH.NULL }, []);
    keys.push(objectHandle);
  });
  after(async () => {
    await both.stop();
  });

  const attributes = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.READ_STCLEAR | TPMA_NV.NO_DA;
  async function define(nvIndex: number, more = 0, dataSize: number = content.length): Promise<void> {
    const platform = (more & TPMA_NV.PLATFORMCREATE) !== 0;
    const publicInfo = { nvIndex, nameAlg: SHA256, attributes: (attributes | more) >>> 0, authPolicy: none, dataSize };
    await both.code(NV_DefineSpace, { authHandle: platform ? TPM_RH.PLATFORM : TPM_RH.OWNER, auth: Buffer.from('nv'), publicInfo });
  }
  const sign = (key: number): number => keys[key] ?? 0;
  const passwords = [password('key'), password()];

  it('contents and digest, signed and not', async () => {
    await define(INDEX);
    await both.code(NV_Write, { authHandle: TPM_RH.OWNER, nvIndex: INDEX, data: content, offset: 0 });
    for (const [size, offset] of [
      [content.length, 0],
      [5, 7],
      [0, 3],
      [0, content.length],
      [0, 0],
    ] as const) {
      for (const signHandle of [sign(0), sign(1), sign(2), TPM_RH.NULL]) {
        const inScheme = signHandle === sign(0) ? ({ scheme: ECDSA, details: { hashAlg: SHA384 } } as const) : nullScheme;
        const request = {
          signHandle,
          authHandle: TPM_RH.OWNER,
          nvIndex: INDEX,
          qualifyingData: Buffer.from('nonce'),
          inScheme,
          size,
          offset,
        };
        const sessions = [password(signHandle === TPM_RH.NULL ? '' : 'key'), password()];
        const { ours, theirs } = await both.run(NV_Certify, request, sessions);
        const [mine, other] = [ours, theirs].map(({ certifyInfo }) => decode(TPMS_ATTEST, certifyInfo));
        assert.ok(mine && other);
        assert.deepEqual([mine.type, mine.attested, mine.extraData], [other.type, other.attested, other.extraData]);
        assert.equal(mine.type, size === 0 && offset === 0 ? TPM_ST.ATTEST_NV_DIGEST : TPM_ST.ATTEST_NV);
        assert.equal(ours.signature.sigAlg, theirs.signature.sigAlg);
      }
    }
    await both.code(NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex: INDEX });
  });

  it('the signature is that of the key', async () => {
    await define(INDEX);
    await both.code(NV_Write, { authHandle: TPM_RH.OWNER, nvIndex: INDEX, data: content, offset: 0 });
    const { execute } = both.ours;
    const inSensitive = { userAuth: none, data: none };
    const inPublic = { ...rsaTemplate(), objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.sign };
    const { objectHandle, outPublic } = await run(execute, CreatePrimary, {
      primaryHandle: TPM_RH.NULL,
      inSensitive,
      inPublic,
      outsideInfo: none,
      creationPCR: [],
    });
    const request = { signHandle: objectHandle, authHandle: INDEX, nvIndex: INDEX, qualifyingData: none, size: 0, offset: 0 };
    const inScheme = { scheme: RSASSA, details: { hashAlg: SHA256 } } as const;
    const { certifyInfo, signature } = await run(execute, NV_Certify, { ...request, inScheme }, [password(), password('nv')]);
    assert.ok(outPublic.type === TPM_ALG.RSA && signature.sigAlg === RSASSA);
    const key = createPublicKey({ format: 'jwk', key: { kty: 'RSA', n: outPublic.unique.toString('base64url'), e: 'AQAB' } });
    assert.ok(verify('sha256', certifyInfo, key, signature.signature.sig));
    await both.code(NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex: INDEX });
  });

  it('what is refused', async () => {
    await define(INDEX);
    const base = {
      signHandle: sign(1),
      authHandle: TPM_RH.OWNER,
      nvIndex: INDEX,
      qualifyingData: none,
      inScheme: nullScheme,
      size: 1,
      offset: 0,
    };
    assert.equal(await both.code(NV_Certify, base, passwords), TPM_RC.NV_UNINITIALIZED);
    await both.code(NV_Write, { authHandle: TPM_RH.OWNER, nvIndex: INDEX, data: content, offset: 0 });
    await both.code(NV_Certify, base);
    await both.code(NV_Certify, base, [password('key')]);
    await both.code(NV_Certify, { ...base, authHandle: INDEX }, passwords);
    await both.code(NV_Certify, { ...base, authHandle: INDEX }, [password('key'), password('nv')]);
    await both.code(NV_Certify, { ...base, authHandle: TPM_RH.PLATFORM }, passwords);
    await both.code(NV_Certify, { ...base, authHandle: PLATFORM_INDEX }, passwords);
    await both.code(NV_Certify, { ...base, nvIndex: PLATFORM_INDEX }, passwords);
    await both.code(NV_Certify, { ...base, size: content.length, offset: 1 }, passwords);
    await both.code(NV_Certify, { ...base, size: 0xffff, offset: 0xffff }, passwords);
    await both.code(NV_Certify, { ...base, size: 0, offset: content.length + 1 }, passwords);
    await both.code(NV_Certify, { ...base, inScheme: { scheme: RSASSA, details: { hashAlg: SHA384 } } }, passwords);
    await both.code(NV_Certify, { ...base, signHandle: sign(0) }, passwords);
    await both.code(NV_Certify, { ...base, signHandle: sign(2), inScheme: { scheme: HMAC, details: { hashAlg: SHA256 } } }, passwords);
    await both.code(NV_Certify, { ...base, qualifyingData: Buffer.alloc(67) }, passwords);
    await both.code(NV_ReadLock, { authHandle: TPM_RH.OWNER, nvIndex: INDEX });
    assert.equal(await both.code(NV_Certify, base, passwords), TPM_RC.NV_LOCKED);
    await both.code(NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex: INDEX });
  });

  it('indices of the platform, large ones and PINs', async () => {
    await define(PLATFORM_INDEX, TPMA_NV.PLATFORMCREATE | TPMA_NV.PPREAD | TPMA_NV.PPWRITE, 2000);
    const data = Buffer.alloc(1000, 5);
    for (const offset of [0, 1000]) await both.code(NV_Write, { authHandle: TPM_RH.PLATFORM, nvIndex: PLATFORM_INDEX, data, offset });
    const base = {
      signHandle: sign(0),
      authHandle: TPM_RH.PLATFORM,
      nvIndex: PLATFORM_INDEX,
      qualifyingData: none,
      inScheme: { scheme: ECDSA, details: { hashAlg: SHA256 } },
    } as const;
    for (const [size, offset] of [
      [1024, 0],
      [1025, 0],
      [1500, 500],
      [0, 0],
      [2000, 0],
    ] as const) {
      await both.code(NV_Certify, { ...base, size, offset }, passwords);
    }
    await both.code(NV_UndefineSpace, { authHandle: TPM_RH.PLATFORM, nvIndex: PLATFORM_INDEX });
    await define(INDEX, TPM_NT.COUNTER << TPMA_NV_NT_SHIFT, 8);
    await both.code(NV_Certify, { ...base, authHandle: TPM_RH.OWNER, nvIndex: INDEX, size: 8, offset: 0 }, passwords);
    await both.code(NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex: INDEX });
  });

  it('in sessions', async () => {
    await define(INDEX);
    await both.code(NV_Write, { authHandle: TPM_RH.OWNER, nvIndex: INDEX, data: content, offset: 0 });
    const contents: unknown[] = [];
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      const session = await ClientSession.start(execute, { symmetric: aesCfb });
      const request = {
        signHandle: TPM_RH.NULL,
        authHandle: TPM_RH.OWNER,
        nvIndex: INDEX,
        qualifyingData: Buffer.from('q'),
        inScheme: nullScheme,
        size: 9,
        offset: 2,
      };
      const uses = [{ auth: '' }, { session, attributes: TPMA_SESSION.encrypt | TPMA_SESSION.decrypt }];
      const publicInfo = {
        nvIndex: INDEX,
        nameAlg: SHA256,
        attributes: (attributes | TPMA_NV.WRITTEN) >>> 0,
        authPolicy: none,
        dataSize: content.length,
      };
      const names = new Map([[INDEX, nameOfNvPublic(publicInfo)]]);
      const { certifyInfo } = await runWithSessions(execute, NV_Certify, request, uses, names);
      contents.push(decode(TPMS_ATTEST, certifyInfo).attested);
    }
    assert.deepEqual(contents[0], contents[1]);
    await both.sameCode(frame(NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex: INDEX }));
  });
});
