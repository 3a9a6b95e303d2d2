// What Duplicate, Rewrap and Import refuse, side by side with swtpm.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Duplicate, FlushContext, Import, Rewrap } from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPMA_OBJECT } from '../../../../src/tpm/constants/index.js';
import { hash } from '../../../../src/tpm/hash.js';
import { TPM_RC } from '../../../../src/tpm/response-code.js';
import { encode, sized } from '../../../../src/tpm/schema.js';
import { type TPMT_PUBLIC, TPMT_SENSITIVE } from '../../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import {
  aes128,
  aes256,
  duplicateSession,
  flushAll,
  free,
  noCipher,
  PARENT_ATTRIBUTES,
  parentTemplate,
  primary,
} from '../../../support/duplication.js';
import { frame, none, password, run } from '../../../support/frames.js';
import { asParent, cipherTemplate, eccTemplate, sealTemplate } from '../../../support/templates.js';

const { SHA256, AES, NULL } = TPM_ALG;

describe('refused duplication', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });
  afterEach(() => flushAll(both.ours.execute, both.theirs.execute));

  /** Sends a Duplicate to both, each with a session of its own. */
  async function duplicateCodes(values: Parameters<typeof frame<typeof Duplicate>>[1]): Promise<number> {
    const codes: number[] = [];
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      const sessions = await duplicateSession(execute);
      codes.push((await execute(frame(Duplicate, values, sessions))).readUInt32BE(6));
      for (const { sessionHandle } of sessions) await execute(frame(FlushContext, { flushHandle: sessionHandle }));
    }
    assert.equal(codes[0]?.toString(16), codes[1]?.toString(16));
    return codes[0] ?? 0;
  }

  it('what Duplicate refuses', async () => {
    const onBoth = async (inPublic: TPMT_PUBLIC, data = none): Promise<number> => {
      const { handle } = await primary(both.ours.execute, inPublic, data);
      assert.equal((await primary(both.theirs.execute, inPublic, data)).handle, handle);
      return handle;
    };
    const newParentHandle = await onBoth(parentTemplate('ecc'));
    const objectHandle = await onBoth(free(eccTemplate()));
    const base = { objectHandle, newParentHandle, encryptionKeyIn: none, symmetricAlg: noCipher };
    assert.equal(await duplicateCodes(base), 0);
    await both.code(Duplicate, base);
    await duplicateCodes({ ...base, objectHandle: newParentHandle });
    await duplicateCodes({ ...base, newParentHandle: objectHandle });
    await duplicateCodes({ ...base, newParentHandle: TPM_RH.OWNER });
    await duplicateCodes({ ...base, encryptionKeyIn: Buffer.alloc(16) });
    for (const size of [1, 15, 17, 32]) await duplicateCodes({ ...base, symmetricAlg: aes128, encryptionKeyIn: Buffer.alloc(size) });
    await duplicateCodes({ ...base, symmetricAlg: aes256, encryptionKeyIn: Buffer.alloc(32) });
    await duplicateCodes({ ...base, symmetricAlg: { algorithm: AES, keyBits: 128, mode: NULL } });
    await duplicateCodes({ ...base, symmetricAlg: { algorithm: AES, keyBits: 128, mode: TPM_ALG.CTR } });
    for (const execute of [both.ours.execute, both.theirs.execute]) await run(execute, FlushContext, { flushHandle: objectHandle });
    const encrypted = await onBoth(free(eccTemplate(), TPMA_OBJECT.encryptedDuplication));
    await duplicateCodes({ ...base, objectHandle: encrypted });
    await duplicateCodes({ ...base, objectHandle: encrypted, newParentHandle: TPM_RH.NULL });
    await duplicateCodes({ ...base, objectHandle: encrypted, newParentHandle: TPM_RH.NULL, symmetricAlg: aes128 });
    await duplicateCodes({ ...base, objectHandle: encrypted, symmetricAlg: aes128 });
    const symmetricParent = await onBoth({ ...cipherTemplate(), objectAttributes: PARENT_ATTRIBUTES });
    await duplicateCodes({ ...base, objectHandle: encrypted, newParentHandle: symmetricParent, symmetricAlg: aes128 });
  });

  it('what Rewrap refuses', async () => {
    const parents: number[] = [];
    for (const type of ['ecc', 'rsa'] as const) {
      const { handle } = await primary(both.ours.execute, parentTemplate(type));
      await primary(both.theirs.execute, parentTemplate(type));
      parents.push(handle);
    }
    const [ecc = 0, rsa = 0] = parents;
    const base = { oldParent: ecc, newParent: rsa, inDuplicate: Buffer.alloc(100, 7), name: Buffer.alloc(34, 1), inSymSeed: none };
    await both.code(Rewrap, base);
    await both.code(Rewrap, { ...base, oldParent: TPM_RH.NULL, inSymSeed: Buffer.alloc(10) });
    await both.code(Rewrap, { ...base, inSymSeed: Buffer.alloc(10) });
    await both.code(Rewrap, { ...base, inSymSeed: Buffer.alloc(68, 1) });
    await both.code(Rewrap, { ...base, oldParent: rsa, inSymSeed: Buffer.alloc(256, 1) });
    await both.code(Rewrap, { ...base, oldParent: rsa, inSymSeed: Buffer.alloc(255, 1) });
    await both.code(Rewrap, { ...base, oldParent: TPM_RH.NULL });
    await both.code(Rewrap, { ...base, oldParent: TPM_RH.NULL, newParent: TPM_RH.NULL });
    await both.code(Rewrap, { ...base, oldParent: TPM_RH.NULL, inDuplicate: none, name: none });
    const signing = await primary(both.ours.execute, eccTemplate());
    await primary(both.theirs.execute, eccTemplate());
    await both.code(Rewrap, { ...base, oldParent: signing.handle, inSymSeed: Buffer.alloc(68, 1) });
    await both.code(Rewrap, { ...base, oldParent: TPM_RH.NULL, newParent: signing.handle });
    await both.code(Rewrap, { ...base, oldParent: TPM_RH.OWNER });
  });

  it('what Import refuses', async () => {
    const parent = await primary(both.ours.execute, parentTemplate('ecc'));
    await primary(both.theirs.execute, parentTemplate('ecc'));
    const seedValue = randomBytes(32);
    const secret = Buffer.from('a sealed secret');
    const sealed = free(sealTemplate());
    const objectPublic = { ...sealed, unique: hash(SHA256, seedValue, secret) };
    const area = { sensitiveType: TPM_ALG.KEYEDHASH, authValue: none, seedValue, sensitive: secret } as const;
    const duplicate = encode(sized(TPMT_SENSITIVE), area);
    const base = { parentHandle: parent.handle, encryptionKey: none, objectPublic, duplicate, inSymSeed: none, symmetricAlg: noCipher };
    assert.equal(await both.code(Import, base), 0);
    const { objectAttributes } = objectPublic;
    const attributes = (bits: number): typeof objectPublic => ({ ...objectPublic, objectAttributes: objectAttributes | bits });
    await both.code(Import, base, [password('x')]);
    await both.code(Import, { ...base, objectPublic: attributes(TPMA_OBJECT.fixedTPM) });
    await both.code(Import, { ...base, objectPublic: attributes(TPMA_OBJECT.fixedParent) });
    await both.code(Import, { ...base, objectPublic: attributes(TPMA_OBJECT.encryptedDuplication) });
    await both.code(Import, {
      ...base,
      objectPublic: attributes(TPMA_OBJECT.encryptedDuplication),
      symmetricAlg: aes128,
      encryptionKey: Buffer.alloc(16),
    });
    await both.code(Import, { ...base, objectPublic: attributes(TPMA_OBJECT.restricted) });
    await both.code(Import, { ...base, objectPublic: attributes(TPMA_OBJECT.sign) });
    await both.code(Import, { ...base, objectPublic: { ...objectPublic, nameAlg: NULL, authPolicy: none } });
    await both.code(Import, { ...base, objectPublic: { ...objectPublic, authPolicy: Buffer.alloc(20) } });
    assert.equal(await both.code(Import, { ...base, objectPublic: { ...objectPublic, unique: Buffer.alloc(32) } }), TPM_RC.BINDING);
    await both.code(Import, { ...base, objectPublic: { ...objectPublic, unique: Buffer.alloc(20) } });
    await both.code(Import, { ...base, encryptionKey: Buffer.alloc(16) });
    await both.code(Import, { ...base, symmetricAlg: aes128, encryptionKey: Buffer.alloc(15) });
    await both.code(Import, { ...base, symmetricAlg: aes128, encryptionKey: Buffer.alloc(16) });
    await both.code(Import, { ...base, inSymSeed: Buffer.alloc(4) });
    await both.code(Import, { ...base, inSymSeed: Buffer.alloc(3) });
    await both.code(Import, { ...base, inSymSeed: Buffer.alloc(68, 1) });
    for (const bytes of [
      none,
      Buffer.of(0),
      duplicate.subarray(0, -1),
      Buffer.concat([duplicate, Buffer.of(0)]),
      Buffer.alloc(2),
      Buffer.alloc(40),
    ]) {
      await both.code(Import, { ...base, duplicate: bytes });
    }
    const areas = [
      { ...area, authValue: Buffer.alloc(33, 1) },
      { ...area, seedValue: Buffer.alloc(31) },
      { ...area, seedValue: Buffer.alloc(33) },
      { ...area, seedValue: none },
      { ...area, sensitiveType: TPM_ALG.SYMCIPHER, sensitive: Buffer.alloc(16) },
      { ...area, sensitive: Buffer.alloc(128) },
    ] as TPMT_SENSITIVE[];
    for (const other of areas) await both.code(Import, { ...base, duplicate: encode(sized(TPMT_SENSITIVE), other) });
    const ecc = { ...free(eccTemplate()), unique: { x: Buffer.alloc(32, 1), y: Buffer.alloc(32, 2) } };
    const scalar = { sensitiveType: TPM_ALG.ECC, authValue: none, seedValue: none, sensitive: Buffer.alloc(32, 3) } as const;
    await both.code(Import, { ...base, objectPublic: ecc, duplicate: encode(sized(TPMT_SENSITIVE), scalar) });
    await both.code(Import, {
      ...base,
      objectPublic: ecc,
      duplicate: encode(sized(TPMT_SENSITIVE), { ...scalar, seedValue: Buffer.alloc(33) }),
    });
    await both.code(Import, { ...base, objectPublic: ecc, duplicate: encode(sized(TPMT_SENSITIVE), { ...scalar, sensitive: none }) });
    const storage = { ...asParent(ecc), unique: ecc.unique };
    await both.code(Import, { ...base, objectPublic: storage, duplicate: encode(sized(TPMT_SENSITIVE), scalar) });
    const signing = await primary(both.ours.execute, eccTemplate());
    await primary(both.theirs.execute, eccTemplate());
    await both.code(Import, { ...base, parentHandle: signing.handle });
    const symmetricParent = await primary(both.ours.execute, { ...cipherTemplate(), objectAttributes: PARENT_ATTRIBUTES });
    await primary(both.theirs.execute, { ...cipherTemplate(), objectAttributes: PARENT_ATTRIBUTES });
    await both.code(Import, { ...base, parentHandle: symmetricParent.handle });
    await both.code(Import, { ...base, parentHandle: symmetricParent.handle, inSymSeed: Buffer.alloc(68, 1) });
  });
});
