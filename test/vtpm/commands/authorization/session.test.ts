import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { encapsulate } from '../../../../src/crypto/secrets.js';
import type { Request } from '../../../../src/tpm/command.js';
import {
  GetRandom,
  HierarchyChangeAuth,
  NV_DefineSpace,
  NV_Read,
  NV_Write,
  PolicyRestart,
  StartAuthSession,
} from '../../../../src/tpm/commands/index.js';
import {
  TPM_ALG,
  TPM_NT,
  TPM_RH,
  TPM_SE,
  TPMA_NV,
  TPMA_NV_NT_SHIFT,
  TPMA_OBJECT,
  TPMA_SESSION,
} from '../../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../../src/tpm/response-code.js';
import { nameOfNvPublic } from '../../../../src/tpm/name.js';
import type { TPMT_PUBLIC } from '../../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { type Execute, expectCode, none, password, run } from '../../../support/frames.js';
import { createPrimary, flush } from '../../../support/primary-keys.js';
import { aesCfb, ClientSession, type SessionOptions, execWithSessions, runWithSessions } from '../../../support/sessions.js';
import { asParent, eccTemplate, GENERAL, hmacTemplate, rsaTemplate } from '../../../support/templates.js';
import { openTestTpm } from '../../../support/vtpm.js';

type Start = Request<typeof StartAuthSession>;

const noCipher = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const plain: Start = {
  tpmKey: TPM_RH.NULL,
  bind: TPM_RH.NULL,
  nonceCaller: Buffer.alloc(16, 1),
  encryptedSalt: none,
  sessionType: TPM_SE.HMAC,
  symmetric: noCipher,
  authHash: TPM_ALG.SHA256,
};
const nvAttributes = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERWRITE;
const nvIndex = 0x01500000;
const nvPublic = { nvIndex, nameAlg: TPM_ALG.SHA256, attributes: nvAttributes, authPolicy: none, dataSize: 8 };
const nvAuth = Buffer.from('secret');
/** Name of the index once it is written. */
const nvName = nameOfNvPublic({ ...nvPublic, attributes: nvAttributes | TPMA_NV.WRITTEN });

describe('StartAuthSession', () => {
  let pair: Differential;
  let sides: readonly Execute[];
  before(async () => {
    pair = await startDifferential();
    sides = [pair.ours.execute, pair.theirs.execute];
    await pair.code(NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: nvAuth, publicInfo: nvPublic });
    await pair.code(NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data: Buffer.alloc(8, 7), offset: 0 });
  });
  after(() => pair.stop());

  const same = (change: Partial<Start>): Promise<number> => pair.code(StartAuthSession, { ...plain, ...change }, []);

  it('refuses what swtpm refuses', async () => {
    assert.equal(await same({ nonceCaller: Buffer.alloc(15) }), 0x1d5);
    assert.equal(await same({ nonceCaller: Buffer.alloc(33) }), 0x1d5);
    assert.equal(await same({ nonceCaller: Buffer.alloc(21), authHash: TPM_ALG.SHA1 }), 0x1d5);
    assert.equal(await same({ encryptedSalt: Buffer.alloc(4) }), 0x2c4);
    assert.equal(await same({ symmetric: { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CBC } }), 0x4c9);
    assert.equal(await same({ symmetric: { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.NULL } }), 0x4c9);
    assert.equal(await same({ tpmKey: 0x80000000, encryptedSalt: Buffer.alloc(4) }), 0x910);
    assert.equal(await same({ bind: 0x80000000 }), 0x911);
    assert.equal(await same({ bind: 0x01500099 }), 0x28b);
    assert.equal(await same({ bind: 0x81000099 }), 0x28b);
  });

  it('refuses keys that cannot decrypt salts, as swtpm', async () => {
    const salt = Buffer.alloc(32);
    const startAt = async (template: TPMT_PUBLIC, encryptedSalt: Buffer): Promise<number> => {
      const keys = await Promise.all(sides.map((execute) => createPrimary(execute, template)));
      const code = await same({ tpmKey: keys[0]?.handle ?? 0, encryptedSalt });
      for (const execute of sides) await flush(execute, keys[0]?.handle ?? 0);
      return code;
    };
    assert.equal(await startAt(hmacTemplate(), salt), 0x19c);
    assert.equal(await startAt({ ...eccTemplate(), objectAttributes: GENERAL & ~TPMA_OBJECT.decrypt }, salt), 0x182);
    assert.equal(await startAt(eccTemplate(), none), 0x2c4);
    assert.equal(await startAt(eccTemplate(), salt), 0x2c4);
    assert.equal(await startAt(eccTemplate(), Buffer.concat([Buffer.of(0, 32), salt, Buffer.of(0, 32), salt])), 0x2c4);
    assert.equal(await startAt(rsaTemplate(), salt), 0x2c4);
    assert.equal(await startAt(rsaTemplate(), Buffer.alloc(256, 1)), 0x2c4);
  });

  it('binds to no PIN index', async () => {
    const attributes = TPMA_NV.NO_DA | TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | (TPM_NT.PIN_PASS << TPMA_NV_NT_SHIFT);
    await pair.code(NV_DefineSpace, {
      authHandle: TPM_RH.OWNER,
      auth: none,
      publicInfo: { ...nvPublic, nvIndex: nvIndex + 1, attributes },
    });
    assert.equal(await same({ bind: nvIndex + 1 }), 0x28b);
  });

  const kinds: readonly [string, SessionOptions][] = [
    ['plain', {}],
    ['SHA-1', { authHash: TPM_ALG.SHA1 }],
    ['AES', { symmetric: aesCfb }],
    ['XOR', { symmetric: { algorithm: TPM_ALG.XOR, keyBits: TPM_ALG.SHA256, mode: null }, authHash: TPM_ALG.SHA512 }],
    ['bound to the index', { bind: { handle: nvIndex, auth: nvAuth }, symmetric: aesCfb }],
    ['bound to something else', { bind: { handle: TPM_RH.OWNER, auth: none }, authHash: TPM_ALG.SHA384 }],
  ];
  const salts: readonly [string, TPMT_PUBLIC | undefined][] = [
    ['no salt', undefined],
    ['an RSA salt', asParent(rsaTemplate())],
    ['an ECC salt', asParent(eccTemplate())],
    ['an ECC salt of a SHA-384 key', asParent(eccTemplate(undefined, TPM_ALG.SHA384))],
  ];
  for (const [kind, options] of kinds) {
    for (const [salting, template] of salts) {
      it(`authorizes with an HMAC session, ${kind}, with ${salting}`, async () => {
        for (const execute of sides) {
          const salt = template && (await createPrimary(execute, template));
          const session = await ClientSession.start(execute, { ...options, ...(salt && { salt }) });
          if (salt !== undefined) await flush(execute, salt.handle);
          const encrypts = session.symmetric.algorithm === TPM_ALG.NULL ? 0 : TPMA_SESSION.encrypt;
          const attributes = TPMA_SESSION.continueSession | encrypts;
          const names = new Map([[nvIndex, nvName]]);
          for (let i = 0; i < 2; i++) {
            const { data } = await runWithSessions(
              execute,
              NV_Read,
              { authHandle: nvIndex, nvIndex, size: 8, offset: 0 },
              [{ session, auth: nvAuth, attributes }],
              names,
            );
            assert.deepEqual(data, Buffer.alloc(8, 7));
          }
          await flush(execute, session.handle);
        }
      });
    }
  }

  it('takes no salt that is for another key or use', async () => {
    for (const execute of sides) {
      const key = await createPrimary(execute, asParent(eccTemplate()));
      const { encrypted } = encapsulate(key.publicArea, 'IDENTITY');
      // An ECC salt of the wrong use opens to another secret: only the first HMAC tells.
      const { sessionHandle } = await run(execute, StartAuthSession, { ...plain, tpmKey: key.handle, encryptedSalt: encrypted });
      await flush(execute, sessionHandle, key.handle);
      const rsa = await createPrimary(execute, asParent(rsaTemplate()));
      const wrongUse = encapsulate(rsa.publicArea, 'IDENTITY').encrypted;
      await expectCode(execute, 0x2c4, StartAuthSession, { ...plain, tpmKey: rsa.handle, encryptedSalt: wrongUse });
      await flush(execute, rsa.handle);
    }
  });

  it('keeps a session bound to the authValue that the entity had', async () => {
    for (const execute of sides) {
      const first = Buffer.from('first');
      await run(execute, HierarchyChangeAuth, { authHandle: TPM_RH.ENDORSEMENT, newAuth: first });
      const session = await ClientSession.start(execute, { bind: { handle: TPM_RH.ENDORSEMENT, auth: first } });
      const bound = await execWithSessions(
        execute,
        HierarchyChangeAuth,
        { authHandle: TPM_RH.ENDORSEMENT, newAuth: Buffer.from('second') },
        [{ session }],
      );
      assert.equal(bound.code, 0);
      const unbound = await execWithSessions(execute, HierarchyChangeAuth, { authHandle: TPM_RH.ENDORSEMENT, newAuth: none }, [
        { session },
      ]);
      assert.equal(unbound.code, 0x9a2);
      await run(execute, HierarchyChangeAuth, { authHandle: TPM_RH.ENDORSEMENT, newAuth: none }, [password('second')]);
      await flush(execute, session.handle);
    }
  });

  it('ends a session without continueSession', async () => {
    for (const execute of sides) {
      const session = await ClientSession.start(execute, { symmetric: aesCfb });
      await runWithSessions(execute, GetRandom, { bytesRequested: 8 }, [{ session, attributes: TPMA_SESSION.encrypt }]);
      await expectCode(execute, 0x918, GetRandom, { bytesRequested: 8 }, [
        { sessionHandle: session.handle, nonce: randomBytes(16), sessionAttributes: TPMA_SESSION.encrypt, hmac: none },
      ]);
    }
  });

  it('has a limit of sessions in memory, and of handles', async () => {
    const { execute } = await openTestTpm({ limits: { loadedSessions: 2, activeSessions: 2 } });
    await run(execute, StartAuthSession, plain);
    const { sessionHandle } = await run(execute, StartAuthSession, { ...plain, sessionType: TPM_SE.POLICY });
    assert.equal(sessionHandle, 0x03000001);
    await expectCode(execute, TPM_RC.SESSION_MEMORY, StartAuthSession, plain);
  });
});

describe('PolicyRestart', () => {
  it('is for policy sessions', async () => {
    const { execute } = await openTestTpm();
    const { sessionHandle } = await run(execute, StartAuthSession, plain);
    await expectCode(execute, 0x184, PolicyRestart, { sessionHandle });
    await expectCode(execute, 0x18b, PolicyRestart, { sessionHandle: sessionHandle + 0x01000000 });
  });
});
