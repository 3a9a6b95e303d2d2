// Duplicate, Rewrap and Import: what leaves a vTPM is at home in swtpm, and the other way round.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  Duplicate,
  EncryptDecrypt,
  FlushContext,
  HMAC,
  Import,
  Load,
  LoadExternal,
  PolicyDuplicationSelect,
  ReadPublic,
  Rewrap,
  Sign,
  StartAuthSession,
  Unseal,
  VerifySignature,
} from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SE, TPM_ST, TPMA_OBJECT } from '../../../../src/tpm/constants/index.js';
import { policyDigest } from '../../../../src/tpm/policy-digest.js';
import { nameOfPublic } from '../../../../src/tpm/name.js';
import { encode, sized } from '../../../../src/tpm/schema.js';
import { TPMT_PUBLIC, type TPMT_SYM_DEF_OBJECT_PLUS } from '../../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import {
  aes128,
  aes256,
  camellia,
  duplicateSession,
  flushAll,
  free,
  type Loaded,
  noCipher,
  parentTemplate,
  primary,
} from '../../../support/duplication.js';
import { type Execute, frame, none, password, run } from '../../../support/frames.js';
import { asParent, cipherTemplate, eccTemplate, hmacTemplate, rsaTemplate, sealTemplate } from '../../../support/templates.js';

const { SHA256, SHA384, NULL, ECDSA, RSASSA } = TPM_ALG;

interface Way {
  readonly name: string;
  readonly symmetricAlg: TPMT_SYM_DEF_OBJECT_PLUS;
  /** The caller gives the inner key. */
  readonly given: boolean;
  readonly outer: boolean;
}
const ways: readonly Way[] = [
  { name: 'outer wrap', symmetricAlg: noCipher, given: false, outer: true },
  { name: 'inner and outer wrap', symmetricAlg: aes128, given: false, outer: true },
  { name: 'inner wrap with a given key, outer wrap', symmetricAlg: aes256, given: true, outer: true },
  { name: 'inner wrap alone', symmetricAlg: camellia, given: false, outer: false },
  { name: 'nothing', symmetricAlg: noCipher, given: false, outer: false },
];

/** Duplicates an object of one TPM to a parent in another and loads it there. */
async function move(from: Execute, object: Loaded, to: Execute, parent: Loaded, way: Way): Promise<Loaded> {
  const { symmetricAlg, outer } = way;
  const newParent = outer
    ? (await run(from, LoadExternal, { inPrivate: null, inPublic: parent.publicArea, hierarchy: TPM_RH.NULL }, [])).objectHandle
    : TPM_RH.NULL;
  const own = way.given ? randomBytes((symmetricAlg.keyBits ?? 0) / 8) : none;
  const { nameAlg } = object.publicArea;
  const sessions = await duplicateSession(from, nameAlg as typeof SHA256);
  const request = { objectHandle: object.handle, newParentHandle: newParent, encryptionKeyIn: own, symmetricAlg };
  const { encryptionKeyOut, duplicate, outSymSeed } = await run(from, Duplicate, request, sessions);
  assert.equal(encryptionKeyOut.length, symmetricAlg.algorithm === NULL || way.given ? 0 : symmetricAlg.keyBits / 8);
  if (outer) await run(from, FlushContext, { flushHandle: newParent });
  const encryptionKey = way.given ? own : Buffer.from(encryptionKeyOut);
  const parts = {
    encryptionKey,
    objectPublic: object.publicArea,
    duplicate: Buffer.from(duplicate),
    inSymSeed: Buffer.from(outSymSeed),
    symmetricAlg,
  };
  const { outPrivate } = await run(to, Import, { parentHandle: parent.handle, ...parts });
  const { objectHandle } = await run(to, Load, {
    parentHandle: parent.handle,
    inPrivate: Buffer.from(outPrivate),
    inPublic: object.publicArea,
  });
  return { handle: objectHandle, publicArea: object.publicArea };
}

/** What a key makes that another with the same secret makes too; undefined where that is chance. */
async function fingerprint(execute: Execute, { handle, publicArea }: Loaded): Promise<Buffer | undefined> {
  const auth = [password('auth')];
  switch (publicArea.type) {
    case TPM_ALG.SYMCIPHER: {
      const request = { keyHandle: handle, decrypt: 0, mode: NULL, ivIn: Buffer.alloc(16), inData: Buffer.alloc(32, 5) } as const;
      return (await run(execute, EncryptDecrypt, request, auth)).outData;
    }
    case TPM_ALG.KEYEDHASH:
      if ((publicArea.objectAttributes & TPMA_OBJECT.sign) === 0) return (await run(execute, Unseal, { itemHandle: handle }, auth)).outData;
      return (await run(execute, HMAC, { handle, buffer: Buffer.from('data'), hashAlg: NULL }, auth)).outHMAC;
    default: {
      const digest = Buffer.alloc(32, 3);
      const inScheme = { scheme: publicArea.type === TPM_ALG.RSA ? RSASSA : ECDSA, details: { hashAlg: SHA256 } } as const;
      const validation = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
      const { signature } = await run(execute, Sign, { keyHandle: handle, digest, inScheme, validation }, auth);
      await run(execute, VerifySignature, { keyHandle: handle, digest, signature }, []);
      return publicArea.type === TPM_ALG.RSA ? encode(sized(TPMT_PUBLIC), publicArea) : undefined;
    }
  }
}

describe('duplication', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });
  afterEach(() => flushAll(both.ours.execute, both.theirs.execute));

  for (const [name, template, data] of [
    ['an RSA key', free(rsaTemplate()), none],
    ['an ECC key', free(eccTemplate()), none],
    ['an ECC key with a Name of SHA-384', free(eccTemplate(undefined, SHA384)), none],
    ['an HMAC key', free(hmacTemplate()), none],
    ['sealed data', free(sealTemplate()), Buffer.from('a sealed secret')],
    ['a cipher key', free(cipherTemplate()), none],
    ['an RSA storage key', free(asParent(rsaTemplate())), none],
    ['an ECC storage key', free(asParent(eccTemplate())), none],
  ] as const) {
    for (const [direction, fromOurs] of [
      ['to swtpm', true],
      ['from swtpm', false],
    ] as const) {
      it(`${name} ${direction}`, async () => {
        const [from, to] = fromOurs ? [both.ours.execute, both.theirs.execute] : [both.theirs.execute, both.ours.execute];
        const object = await primary(from, template, data, Buffer.from('auth'));
        for (const type of ['ecc', 'rsa'] as const) {
          const parent = await primary(to, parentTemplate(type));
          for (const way of ways) {
            const moved = await move(from, object, to, parent, way);
            const { name: itsName } = await run(to, ReadPublic, { objectHandle: moved.handle }, []);
            assert.deepEqual(itsName, nameOfPublic(object.publicArea), way.name);
            const isParent = (object.publicArea.objectAttributes & TPMA_OBJECT.restricted) !== 0;
            if (!isParent) assert.deepEqual(await fingerprint(to, moved), await fingerprint(from, object), way.name);
            await run(to, FlushContext, { flushHandle: moved.handle });
          }
          await run(to, FlushContext, { flushHandle: parent.handle });
        }
      });
    }
  }

  /** Rewraps, on `middle`, what leaves `end` and comes back to it. */
  async function rewrapBetween(middle: Execute, end: Execute): Promise<void> {
    const object = await primary(end, free(hmacTemplate()), none, Buffer.from('auth'));
    const oldParent = await primary(middle, parentTemplate('ecc'));
    const expected = await fingerprint(end, object);
    const sessions = await duplicateSession(end);
    const { objectHandle } = await run(end, LoadExternal, { inPrivate: null, inPublic: oldParent.publicArea, hierarchy: TPM_RH.NULL }, []);
    const out = { objectHandle: object.handle, newParentHandle: objectHandle, encryptionKeyIn: none, symmetricAlg: noCipher };
    const first = await run(end, Duplicate, out, sessions);
    await flushAll(end);
    const newParent = await primary(end, parentTemplate('rsa'));
    const { objectHandle: newHandle } = await run(
      middle,
      LoadExternal,
      { inPrivate: null, inPublic: newParent.publicArea, hierarchy: TPM_RH.NULL },
      [],
    );
    const wrapped = {
      oldParent: oldParent.handle,
      inDuplicate: Buffer.from(first.duplicate),
      name: nameOfPublic(object.publicArea),
      inSymSeed: Buffer.from(first.outSymSeed),
    };
    const second = await run(middle, Rewrap, { ...wrapped, newParent: newHandle });
    const parts = {
      encryptionKey: none,
      objectPublic: object.publicArea,
      duplicate: Buffer.from(second.outDuplicate),
      inSymSeed: Buffer.from(second.outSymSeed),
      symmetricAlg: noCipher,
    };
    const { outPrivate } = await run(end, Import, { parentHandle: newParent.handle, ...parts });
    const { objectHandle: handle } = await run(end, Load, {
      parentHandle: newParent.handle,
      inPrivate: Buffer.from(outPrivate),
      inPublic: object.publicArea,
    });
    assert.deepEqual(await fingerprint(end, { handle, publicArea: object.publicArea }), expected);
    // Without a new parent the wrap is taken off, and can be put on again.
    const bare = await run(middle, Rewrap, { ...wrapped, newParent: TPM_RH.NULL });
    assert.equal(bare.outSymSeed.length, 0);
    const again = { oldParent: TPM_RH.NULL, inDuplicate: Buffer.from(bare.outDuplicate), name: wrapped.name, inSymSeed: none };
    const third = await run(middle, Rewrap, { ...again, newParent: newHandle });
    await run(end, Import, {
      parentHandle: newParent.handle,
      ...parts,
      duplicate: Buffer.from(third.outDuplicate),
      inSymSeed: Buffer.from(third.outSymSeed),
    });
    await flushAll(middle, end);
  }

  it('Rewrap for another parent, in both directions', async () => {
    await rewrapBetween(both.ours.execute, both.theirs.execute);
    await rewrapBetween(both.theirs.execute, both.ours.execute);
  });

  it('PolicyDuplicationSelect names object and new parent', async () => {
    const { execute } = both.ours;
    const parent = await primary(execute, parentTemplate('ecc'));
    const newParentName = nameOfPublic(parent.publicArea);
    const terms = { objectName: none, newParentName, includeObject: 0 } as const;
    const authPolicy = policyDigest([[PolicyDuplicationSelect, terms]]);
    const object = await primary(execute, { ...hmacTemplate(), authPolicy });
    const handles = { tpmKey: TPM_RH.NULL, bind: TPM_RH.NULL };
    const start = {
      ...handles,
      nonceCaller: Buffer.alloc(16),
      encryptedSalt: none,
      sessionType: TPM_SE.POLICY,
      symmetric: noCipher,
      authHash: SHA256,
    };
    for (const newParentHandle of [parent.handle, TPM_RH.NULL]) {
      const { sessionHandle } = await run(execute, StartAuthSession, start, []);
      const select = {
        policySession: sessionHandle,
        objectName: nameOfPublic(object.publicArea),
        newParentName,
        includeObject: 0,
      } as const;
      await run(execute, PolicyDuplicationSelect, select, []);
      const session = { sessionHandle, nonce: none, sessionAttributes: 0, hmac: none };
      const request = { objectHandle: object.handle, newParentHandle, encryptionKeyIn: none, symmetricAlg: noCipher };
      const answer = await execute(frame(Duplicate, request, [session]));
      assert.equal(answer.readUInt32BE(6) === 0, newParentHandle === parent.handle);
    }
  });
});
