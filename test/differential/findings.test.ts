// What runs of the differential test have found, so that it stays found: each is rare in a bounded run.
import assert from 'node:assert/strict';
import {
  Certify,
  ContextSave,
  Create,
  CreatePrimary,
  EncryptDecrypt2,
  FlushContext,
  GetCapability,
  HashSequenceStart,
  HMAC,
  LoadExternal,
  PCR_Allocate,
  PCR_Extend,
  PCR_Reset,
  PCR_SetAuthPolicy,
  PCR_SetAuthValue,
  Shutdown,
  Sign,
  StartAuthSession,
  Startup,
  VerifySignature,
} from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_RH, TPM_SE, TPM_ST, TPM_SU, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { hash } from '../../src/tpm/hash.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../support/differential.js';
import { frame, none } from '../support/frames.js';
import { cipherTemplate, eccTemplate, hmacTemplate } from '../support/templates.js';

const noScheme = { scheme: TPM_ALG.NULL, details: null } as const;
const noCipher = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
const all = Buffer.from('ffffff', 'hex');
const FIRST = 0x80000000;

describe('findings of the differential test', () => {
  let pair: Differential;
  before(async () => {
    pair = await startDifferential({ limits: { loadedObjects: 3, loadedSessions: 3, activeSessions: 64 } });
  });
  after(() => pair.stop());
  afterEach(() => pair.restart());

  const startSequence = (): Promise<number> => pair.code(HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 });

  it('a sequence is an object of no type', async () => {
    await startSequence();
    assert.equal(await pair.code(Sign, { keyHandle: FIRST, digest: Buffer.alloc(32), inScheme: noScheme, validation: noTicket }), 0x19c);
    const signature = { sigAlg: TPM_ALG.HMAC, signature: { hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32) } } as const;
    assert.equal(await pair.code(VerifySignature, { keyHandle: FIRST, digest: Buffer.alloc(32), signature }), 0x182);
    const inSensitive = { userAuth: none, data: none };
    const request = { parentHandle: FIRST, inSensitive, inPublic: eccTemplate(), outsideInfo: none, creationPCR: [] };
    assert.equal(await pair.code(Create, request), 0x18a);
  });

  it('a sequence can be certified: its Names are empty', async () => {
    await startSequence();
    const request = { objectHandle: FIRST, signHandle: TPM_RH.NULL, qualifyingData: none, inScheme: noScheme };
    assert.equal(await pair.code(Certify, request), TPM_RC.SUCCESS);
  });

  it('data beside sensitiveDataOrigin is not the secret of a primary key', async () => {
    const template = cipherTemplate();
    const request = { primaryHandle: TPM_RH.OWNER, inPublic: template, outsideInfo: none, creationPCR: [] };
    const create = (data: Buffer): Promise<unknown> => pair.run(CreatePrimary, { ...request, inSensitive: { userAuth: none, data } });
    await create(Buffer.alloc(15, 1));
    await create(Buffer.alloc(16, 1));
    const use = { inData: Buffer.alloc(16), decrypt: 0, mode: TPM_ALG.NULL, ivIn: Buffer.alloc(16) } as const;
    const [one, other] = [
      await pair.run(EncryptDecrypt2, { keyHandle: FIRST, ...use }),
      await pair.run(EncryptDecrypt2, { keyHandle: FIRST + 1, ...use }),
    ];
    assert.notDeepEqual(one.ours.outData, other.ours.outData);
  });

  it('the chaining value after part of a block is the same', async () => {
    for (const mode of [TPM_ALG.CFB, TPM_ALG.OFB, TPM_ALG.CTR]) {
      const [key, seed] = [Buffer.alloc(16, 1), Buffer.alloc(32, 2)];
      const publicArea: TPMT_PUBLIC = {
        ...cipherTemplate({ algorithm: TPM_ALG.AES, keyBits: 128, mode }),
        objectAttributes: TPMA_OBJECT.sign | TPMA_OBJECT.decrypt | TPMA_OBJECT.userWithAuth,
        unique: hash(TPM_ALG.SHA256, seed, key),
      };
      const inPrivate = { sensitiveType: TPM_ALG.SYMCIPHER, authValue: none, seedValue: seed, sensitive: key };
      const { ours } = await pair.run(LoadExternal, { inPrivate, inPublic: publicArea, hierarchy: TPM_RH.NULL });
      for (const decrypt of [0, 1] as const) {
        for (const size of [0, 1, 15, 16, 17, 33]) {
          const request = { keyHandle: ours.objectHandle, inData: Buffer.alloc(size, 7), decrypt, mode, ivIn: Buffer.alloc(16, 9) };
          await pair.runSame(EncryptDecrypt2, request);
        }
      }
      await pair.code(FlushContext, { flushHandle: ours.objectHandle });
    }
  });

  it('a CMAC by TDES has the constant of 64-bit blocks, which libtpms does not use', async () => {
    const [key, seed] = [Buffer.from('322be98c224d995bce8eb3f1c1ce8d01', 'hex'), Buffer.alloc(32, 2)];
    const publicArea: TPMT_PUBLIC = {
      ...cipherTemplate({ algorithm: TPM_ALG.TDES, keyBits: 128, mode: TPM_ALG.CMAC }),
      objectAttributes: TPMA_OBJECT.sign | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.noDA,
      unique: hash(TPM_ALG.SHA256, seed, key),
    };
    const inPrivate = { sensitiveType: TPM_ALG.SYMCIPHER, authValue: none, seedValue: seed, sensitive: key };
    await pair.run(LoadExternal, { inPrivate, inPublic: publicArea, hierarchy: TPM_RH.NULL });
    const { ours, theirs } = await pair.run(HMAC, { handle: FIRST, buffer: none, hashAlg: TPM_ALG.CMAC });
    // SP 800-38B, 5.3: 0x1b; with 0x87, which is for blocks of 128 bits, it is what libtpms gives.
    assert.equal(ours.outHMAC.toString('hex'), 'ee61da17a6729a21');
    assert.equal(theirs.outHMAC.toString('hex'), 'b0455c923aad8866');
  });

  it('an x509sign key is refused before its scheme is looked at', async () => {
    const template = {
      ...eccTemplate(),
      objectAttributes: TPMA_OBJECT.sign | TPMA_OBJECT.x509sign | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sensitiveDataOrigin,
    };
    const inSensitive = { userAuth: none, data: none };
    await pair.run(CreatePrimary, { primaryHandle: TPM_RH.OWNER, inSensitive, inPublic: template, outsideInfo: none, creationPCR: [] });
    assert.equal(await pair.code(Sign, { keyHandle: FIRST, digest: Buffer.alloc(32), inScheme: noScheme, validation: noTicket }), 0x182);
  });

  it('PCRs with a policy want a policy session', async () => {
    const set = { authHandle: TPM_RH.PLATFORM, pcrNum: 20 };
    await pair.code(PCR_SetAuthPolicy, { ...set, authPolicy: Buffer.alloc(32), hashAlg: TPM_ALG.SHA256 });
    const digests = [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32) }];
    assert.equal(await pair.code(PCR_Extend, { pcrHandle: 22, digests }), TPM_RC.AUTH_TYPE);
    assert.equal(await pair.code(PCR_Reset, { pcrHandle: 21 }), TPM_RC.AUTH_TYPE);
    assert.equal(await pair.code(PCR_SetAuthValue, { pcrHandle: 20, auth: none }), TPM_RC.AUTH_TYPE);
    await pair.code(PCR_SetAuthPolicy, { ...set, authPolicy: none, hashAlg: TPM_ALG.NULL });
    assert.equal(await pair.code(PCR_SetAuthValue, { pcrHandle: 20, auth: none }), TPM_RC.SUCCESS);
  });

  it('the last PCR_Allocate counts, and changes what exists now', async () => {
    const allocate = (...banks: readonly (4 | 11 | 12 | 13)[]): Promise<unknown> => {
      const pcrAllocation = banks.map((bank) => ({ hash: bank, pcrSelect: Buffer.alloc(3) }));
      return pair.runSame(PCR_Allocate, { authHandle: TPM_RH.PLATFORM, pcrAllocation });
    };
    await allocate(TPM_ALG.SHA1);
    await allocate(TPM_ALG.SHA384);
    await pair.restart();
    await pair.same(frame(GetCapability, { capability: TPM_CAP.PCRS, property: 0, propertyCount: 1 }));
    await pair.runSame(PCR_Allocate, { authHandle: TPM_RH.PLATFORM, pcrAllocation: [{ hash: TPM_ALG.SHA384, pcrSelect: all }] });
  });

  it('saved contexts are numbered alike, over a restart too', async () => {
    const inPrivate = { sensitiveType: TPM_ALG.KEYEDHASH, authValue: none, seedValue: Buffer.alloc(32), sensitive: Buffer.alloc(16) };
    const inPublic: TPMT_PUBLIC = {
      ...hmacTemplate(),
      objectAttributes: TPMA_OBJECT.sign | TPMA_OBJECT.userWithAuth,
      unique: hash(TPM_ALG.SHA256, inPrivate.seedValue, inPrivate.sensitive),
    };
    const sequenceOf = async (saveHandle: number): Promise<void> => {
      const { ours, theirs } = await pair.run(ContextSave, { saveHandle });
      assert.equal(ours.context.sequence, theirs.context.sequence);
    };
    for (const startupType of [TPM_SU.CLEAR, TPM_SU.STATE, TPM_SU.CLEAR]) {
      await pair.run(LoadExternal, { inPrivate, inPublic, hierarchy: TPM_RH.NULL });
      await sequenceOf(FIRST);
      await sequenceOf(FIRST);
      const session = { tpmKey: TPM_RH.NULL, bind: TPM_RH.NULL, nonceCaller: Buffer.alloc(16), encryptedSalt: none };
      const { ours } = await pair.run(StartAuthSession, {
        ...session,
        sessionType: TPM_SE.HMAC,
        symmetric: noCipher,
        authHash: TPM_ALG.SHA256,
      });
      await sequenceOf(ours.sessionHandle);
      await pair.code(Shutdown, { shutdownType: TPM_SU.STATE });
      await pair.powerCycle();
      assert.equal(await pair.code(Startup, { startupType }), TPM_RC.SUCCESS);
    }
  });
});
