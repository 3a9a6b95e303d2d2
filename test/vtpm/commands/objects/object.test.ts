import assert from 'node:assert/strict';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPMA_OBJECT } from '../../../../src/tpm/constants/index.js';
import {
  ActivateCredential,
  Create,
  CreateLoaded,
  CreatePrimary,
  FlushContext,
  Load,
  LoadExternal,
  MakeCredential,
  ObjectChangeAuth,
  ReadPublic,
  Unseal,
} from '../../../../src/tpm/commands/index.js';
import { encode } from '../../../../src/tpm/schema.js';
import { TPMT_PUBLIC } from '../../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { expectCode, none, password, run } from '../../../support/frames.js';
import { openTestTpm } from '../../../support/vtpm.js';

const SIGN_ATTRIBUTES =
  TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign;
const PARENT_ATTRIBUTES =
  TPMA_OBJECT.fixedTPM |
  TPMA_OBJECT.fixedParent |
  TPMA_OBJECT.sensitiveDataOrigin |
  TPMA_OBJECT.userWithAuth |
  TPMA_OBJECT.noDA |
  TPMA_OBJECT.restricted |
  TPMA_OBJECT.decrypt;

const aes = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB } as const;
const noCipher = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const noScheme = { scheme: TPM_ALG.NULL, details: null } as const;

/** An ECC P-256 storage key. */
const storage: TPMT_PUBLIC = {
  type: TPM_ALG.ECC,
  nameAlg: TPM_ALG.SHA256,
  objectAttributes: PARENT_ATTRIBUTES,
  authPolicy: none,
  parameters: { symmetric: aes, scheme: noScheme, curveID: TPM_ECC_CURVE.NIST_P256, kdf: noScheme },
  unique: { x: none, y: none },
};

/** An unrestricted ECDSA key with these attributes and scheme. */
function signer(objectAttributes = SIGN_ATTRIBUTES): TPMT_PUBLIC {
  return {
    ...storage,
    objectAttributes,
    parameters: {
      symmetric: noCipher,
      scheme: { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } },
      curveID: TPM_ECC_CURVE.NIST_P256,
      kdf: noScheme,
    },
  } as TPMT_PUBLIC;
}

/** Sealed data. */
const sealed: TPMT_PUBLIC = {
  type: TPM_ALG.KEYEDHASH,
  nameAlg: TPM_ALG.SHA256,
  objectAttributes: TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.userWithAuth,
  authPolicy: none,
  parameters: { scheme: noScheme },
  unique: none,
};

const creation = { outsideInfo: none, creationPCR: [] };
const sensitive = (userAuth: Buffer = none, data: Buffer = none) => ({ userAuth, data });

describe('object commands', () => {
  describe('beside swtpm', () => {
    let pair: Differential;
    before(async () => {
      pair = await startDifferential();
    });
    after(() => pair.stop());

    const primary = (inPublic: TPMT_PUBLIC, data: Buffer = none) => ({
      primaryHandle: TPM_RH.OWNER,
      inSensitive: sensitive(none, data),
      inPublic,
      ...creation,
    });

    it('describes a primary key in the same way', async () => {
      const { ours, theirs } = await pair.run(CreatePrimary, {
        ...primary(storage),
        creationPCR: [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([1, 2, 0]) }],
      });
      assert.deepEqual(ours.creationData, theirs.creationData);
      assert.deepEqual(ours.creationHash, theirs.creationHash);
      assert.equal(ours.objectHandle, theirs.objectHandle);
      assert.ok(ours.creationTicket.digest.length > 0 && theirs.creationTicket.digest.length > 0);
      assert.deepEqual({ ...ours.outPublic, unique: null }, { ...theirs.outPublic, unique: null });
      await pair.code(FlushContext, { flushHandle: ours.objectHandle });
    });

    const attributeCases: [string, TPMT_PUBLIC, Buffer?][] = [
      ['fixedParent without fixedTPM', signer(SIGN_ATTRIBUTES & ~TPMA_OBJECT.fixedTPM)],
      ['no sensitiveDataOrigin', signer(SIGN_ATTRIBUTES & ~TPMA_OBJECT.sensitiveDataOrigin)],
      ['data for an asymmetric key', signer(SIGN_ATTRIBUTES & ~TPMA_OBJECT.sensitiveDataOrigin), Buffer.from('x')],
      ['neither sign nor decrypt', signer(SIGN_ATTRIBUTES & ~TPMA_OBJECT.sign)],
      ['restricted, sign and decrypt', signer(SIGN_ATTRIBUTES | TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt)],
      ['encryptedDuplication of a fixed object', signer(SIGN_ATTRIBUTES | TPMA_OBJECT.encryptedDuplication)],
      ['policy of the wrong size', { ...signer(), authPolicy: Buffer.alloc(20) }],
      ['scheme on a sign and decrypt key', signer(SIGN_ATTRIBUTES | TPMA_OBJECT.decrypt)],
      ['storage key without cipher', { ...storage, parameters: { ...storage.parameters, symmetric: noCipher } }],
      ['cipher on a signing key', { ...signer(), parameters: { ...signer().parameters, symmetric: aes } } as TPMT_PUBLIC],
      ['sealed data without data', sealed],
      ['sealed data made by the TPM', { ...sealed, objectAttributes: sealed.objectAttributes | TPMA_OBJECT.sensitiveDataOrigin }],
      [
        'sealed data with a scheme',
        { ...sealed, parameters: { scheme: { scheme: TPM_ALG.HMAC, details: { hashAlg: TPM_ALG.SHA256 } } } },
        Buffer.from('x'),
      ],
      ['largest sealed data', sealed, Buffer.alloc(128)],
    ];
    for (const [what, template, data] of attributeCases) {
      it(`CreatePrimary: ${what}`, async () => {
        const code = await pair.code(CreatePrimary, primary(template, data));
        if (code === 0) await pair.code(FlushContext, { flushHandle: 0x80000000 });
      });
    }

    it('refuses an auth value longer than the name digest', async () => {
      await pair.code(CreatePrimary, { ...primary(storage), inSensitive: sensitive(Buffer.alloc(33, 1)) });
    });

    it('creates, loads and unseals under a parent, and refuses what does not belong there', async () => {
      const { ours: parent } = await pair.run(CreatePrimary, primary(storage));
      const parentHandle = parent.objectHandle;
      const item = { parentHandle, inSensitive: sensitive(Buffer.from('pin'), Buffer.from('secret')), inPublic: sealed, ...creation };
      const { ours, theirs } = await pair.run(Create, item);
      assert.deepEqual(ours.creationTicket.hierarchy, theirs.creationTicket.hierarchy);
      assert.equal(ours.outPublic.type, theirs.outPublic.type);
      await pair.code(Create, { ...item, inPublic: { ...sealed, objectAttributes: sealed.objectAttributes & ~TPMA_OBJECT.fixedTPM } });
      await pair.code(Load, { parentHandle, inPrivate: none, inPublic: ours.outPublic });
      await pair.code(Load, {
        parentHandle,
        inPrivate: Buffer.concat([Buffer.from([0, 32]), Buffer.alloc(100, 7)]),
        inPublic: ours.outPublic,
      });
      for (const [tpm, made] of [
        [pair.ours, ours],
        [pair.theirs, theirs],
      ] as const) {
        const { objectHandle } = await run(tpm.execute, Load, { parentHandle, inPrivate: made.outPrivate, inPublic: made.outPublic });
        assert.equal(objectHandle, 0x80000001);
      }
      assert.equal((await pair.runSame(Unseal, { itemHandle: 0x80000001 }, [password('pin')])).outData.toString(), 'secret');
      await pair.code(Unseal, { itemHandle: 0x80000001 }, [password('pi')]);
      await pair.code(Unseal, { itemHandle: parentHandle });
      await pair.code(Create, { ...item, parentHandle: 0x80000001 }, [password('pin')]);
      for (const flushHandle of [parentHandle, 0x80000001]) await pair.code(FlushContext, { flushHandle });
    });

    it('answers about objects that are not there', async () => {
      await pair.code(ReadPublic, { objectHandle: 0x80000002 });
      await pair.code(ReadPublic, { objectHandle: 0x81000007 });
      await pair.code(Load, { parentHandle: 0x80000001, inPrivate: Buffer.alloc(8), inPublic: sealed });
    });

    it('LoadExternal checks hierarchy, attributes and keys', async () => {
      const { ours } = await pair.run(CreatePrimary, primary(signer()));
      await pair.code(FlushContext, { flushHandle: ours.objectHandle });
      const { outPublic } = ours;
      const external = (over: Partial<Parameters<typeof pair.code<typeof LoadExternal>>[1]>) => ({
        inPrivate: null,
        inPublic: outPublic,
        hierarchy: TPM_RH.OWNER,
        ...over,
      });
      const { name } = await pair.runSame(LoadExternal, external({}));
      assert.deepEqual(name, ours.name);
      await pair.runSame(ReadPublic, { objectHandle: 0x80000000 });
      await pair.code(FlushContext, { flushHandle: 0x80000000 });
      const d = Buffer.alloc(32, 1);
      const inPrivate = { sensitiveType: TPM_ALG.ECC, authValue: none, seedValue: none, sensitive: d } as const;
      await pair.code(LoadExternal, external({ inPrivate }));
      await pair.code(LoadExternal, external({ inPrivate, hierarchy: TPM_RH.NULL }));
      const loose = { ...outPublic, objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign };
      await pair.code(LoadExternal, external({ inPrivate, inPublic: loose, hierarchy: TPM_RH.NULL }));
      await pair.code(
        LoadExternal,
        external({ inPrivate: { ...inPrivate, sensitiveType: TPM_ALG.RSA }, inPublic: loose, hierarchy: TPM_RH.NULL }),
      );
      await pair.code(LoadExternal, external({ inPublic: { ...loose, unique: { x: d, y: d } } as TPMT_PUBLIC }));
      await pair.code(LoadExternal, external({ inPublic: { ...loose, unique: { x: d.subarray(1), y: d } } as TPMT_PUBLIC }));
    });

    it('CreateLoaded under a hierarchy and under a key', async () => {
      const { ours } = await pair.run(CreateLoaded, {
        parentHandle: TPM_RH.OWNER,
        inSensitive: sensitive(),
        inPublic: encode(TPMT_PUBLIC, storage),
      });
      assert.equal(ours.outPrivate.length, 0);
      const child = await pair.run(CreateLoaded, {
        parentHandle: ours.objectHandle,
        inSensitive: sensitive(),
        inPublic: encode(TPMT_PUBLIC, signer()),
      });
      assert.ok(child.ours.outPrivate.length > 0);
      await pair.code(CreateLoaded, { parentHandle: ours.objectHandle, inSensitive: sensitive(), inPublic: Buffer.from('00', 'hex') });
      await pair.code(CreateLoaded, {
        parentHandle: child.ours.objectHandle,
        inSensitive: sensitive(),
        inPublic: encode(TPMT_PUBLIC, signer()),
      });
      for (const flushHandle of [0x80000000, 0x80000001]) await pair.code(FlushContext, { flushHandle });
    });
  });

  it('gives the same primary key for the same template, another for another, and keeps it over a restart', async () => {
    const tpm = await openTestTpm();
    const make = async (template: TPMT_PUBLIC, hierarchy: number = TPM_RH.OWNER, execute = tpm.execute) => {
      const made = await run(execute, CreatePrimary, {
        primaryHandle: hierarchy,
        inSensitive: sensitive(),
        inPublic: template,
        ...creation,
      });
      await run(execute, FlushContext, { flushHandle: made.objectHandle });
      return made.name.toString('hex');
    };
    const first = await make(storage);
    assert.equal(await make(storage), first);
    assert.notEqual(await make({ ...storage, unique: { x: Buffer.from('1'), y: none } }), first);
    assert.notEqual(await make(storage, TPM_RH.ENDORSEMENT), first);
    const again = await tpm.reopen();
    assert.equal(await make(storage, TPM_RH.OWNER, again.execute), first);
    const nullKey = await make(storage, TPM_RH.NULL);
    assert.equal(await make(storage, TPM_RH.NULL), nullKey);
    assert.notEqual(await make(storage, TPM_RH.NULL, again.execute), nullKey);
  });

  it('binds a private blob to its guest, its parent and its public area', async () => {
    const [alice, bob] = [await openTestTpm(), await openTestTpm()];
    const parents = await Promise.all(
      [alice, bob].map((tpm) =>
        run(tpm.execute, CreatePrimary, { primaryHandle: TPM_RH.OWNER, inSensitive: sensitive(), inPublic: storage, ...creation }),
      ),
    );
    const [parent, bobs] = parents.map((made) => made.objectHandle) as [number, number];
    const made = await run(alice.execute, Create, { parentHandle: parent, inSensitive: sensitive(), inPublic: signer(), ...creation });
    const INTEGRITY_P1 = 0x1df;
    await expectCode(bob.execute, INTEGRITY_P1, Load, { parentHandle: bobs, inPrivate: made.outPrivate, inPublic: made.outPublic });
    const other = await run(alice.execute, CreatePrimary, {
      primaryHandle: TPM_RH.PLATFORM,
      inSensitive: sensitive(),
      inPublic: storage,
      ...creation,
    });
    await expectCode(alice.execute, INTEGRITY_P1, Load, {
      parentHandle: other.objectHandle,
      inPrivate: made.outPrivate,
      inPublic: made.outPublic,
    });
    const changed = { ...made.outPublic, objectAttributes: made.outPublic.objectAttributes | TPMA_OBJECT.noDA };
    await expectCode(alice.execute, INTEGRITY_P1, Load, { parentHandle: parent, inPrivate: made.outPrivate, inPublic: changed });
    await run(alice.execute, Load, { parentHandle: parent, inPrivate: made.outPrivate, inPublic: made.outPublic });
  });

  it('changes an auth value for the next load only', async () => {
    const { execute } = await openTestTpm();
    const parent = await run(execute, CreatePrimary, {
      primaryHandle: TPM_RH.OWNER,
      inSensitive: sensitive(),
      inPublic: storage,
      ...creation,
    });
    const item = {
      parentHandle: parent.objectHandle,
      inSensitive: sensitive(Buffer.from('old'), Buffer.from('s')),
      inPublic: sealed,
      ...creation,
    };
    const made = await run(execute, Create, item);
    const old = await run(execute, Load, { parentHandle: parent.objectHandle, inPrivate: made.outPrivate, inPublic: made.outPublic });
    const change = { objectHandle: old.objectHandle, parentHandle: parent.objectHandle, newAuth: Buffer.from('new') };
    const { outPrivate } = await run(execute, ObjectChangeAuth, change, [password('old')]);
    await run(execute, Unseal, { itemHandle: old.objectHandle }, [password('old')]);
    const changed = await run(execute, Load, { parentHandle: parent.objectHandle, inPrivate: outPrivate, inPublic: made.outPublic });
    await run(execute, Unseal, { itemHandle: changed.objectHandle }, [password('new')]);
  });

  it('activates a credential that it made', async () => {
    const { execute } = await openTestTpm();
    const primary = (inPublic: TPMT_PUBLIC) =>
      run(execute, CreatePrimary, { primaryHandle: TPM_RH.OWNER, inSensitive: sensitive(), inPublic, ...creation });
    const [key, ak] = [await primary(storage), await primary(signer())];
    const credential = Buffer.from('credential');
    const made = await run(execute, MakeCredential, { handle: key.objectHandle, credential, objectName: ak.name });
    const handles = { activateHandle: ak.objectHandle, keyHandle: key.objectHandle };
    const { certInfo } = await run(execute, ActivateCredential, { ...handles, credentialBlob: made.credentialBlob, secret: made.secret });
    assert.deepEqual(certInfo, credential);
    const broken = Buffer.from(made.credentialBlob);
    broken[broken.length - 1]! ^= 1;
    await expectCode(execute, 0x1df, ActivateCredential, { ...handles, credentialBlob: broken, secret: made.secret });
  });
});
