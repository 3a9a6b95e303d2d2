// Vendor commands: what an aware guest learns of the matrix, and what it can bind to a vector of its choice.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Command } from '../../../../src/tpm/command.js';
import {
  CreatePrimary,
  PCR_Extend,
  PCR_Read,
  PolicyGetDigest,
  PolicyPCR,
  Quote,
  Unseal,
  Create,
  Load,
  Vendor_ListProviders,
  Vendor_PolicyPCR,
  Vendor_Quote,
  Vendor_ReadVector,
} from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_ECC_CURVE, TPM_RH, TPM_SE, TPM_ST, TPMA_OBJECT } from '../../../../src/tpm/constants/index.js';
import { hash } from '../../../../src/tpm/hash.js';
import { isProviderExtraData, providerExtraData } from '../../../../src/tpm/provider-quote.js';
import { TPM_RC } from '../../../../src/tpm/response-code.js';
import { decode, encode } from '../../../../src/tpm/schema.js';
import { TPM2B_PROVIDER, TPML_PCR_SELECTION, TPMS_ATTEST } from '../../../../src/tpm/structures/index.js';
import { verifySignature } from '../../../../src/crypto/signatures.js';
import type { Catalog } from '../../../../src/statements/catalog.js';
import { PropertySet } from '../../../../src/statements/property-set.js';
import { catalogOf, digestOf, providersOf, statement } from '../../../properties/fixture.js';
import { codeOf, emptyPasswords, expectCode, frame, none, rawFrame, run } from '../../../support/frames.js';
import { ClientSession, execWithSessions } from '../../../support/sessions.js';
import { asParent, eccTemplate } from '../../../support/templates.js';
import { arbitraryCommand } from '../../../tpm/arbitrary.js';
import { openTestTpm, type TestTpm } from '../../../support/vtpm.js';

const { SHA256 } = TPM_ALG;
const zero = Buffer.alloc(32);
const FIXED = TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth;
const creation = { inSensitive: { userAuth: none, data: none }, outsideInfo: none, creationPCR: [] };
const ecdsa = { scheme: TPM_ALG.ECDSA, details: { hashAlg: SHA256 } } as const;
const PARAMETER_1 = 0x140;
const selection = (...pcrs: readonly number[]): TPML_PCR_SELECTION => {
  const pcrSelect = Buffer.alloc(3);
  for (const pcr of pcrs) pcrSelect[pcr >> 3]! |= 1 << (pcr & 7);
  return [{ hash: SHA256, pcrSelect }];
};
const named = (name: string): Buffer => Buffer.from(name);

describe('vendor commands', () => {
  let catalog: Catalog;
  let guest: TestTpm;
  const certified = hash(SHA256, zero, PropertySet.of({ good: true }).digest(SHA256));
  const digest = hash(SHA256, zero, digestOf(SHA256, 'kernel a'));
  const extend = async (text: string, pcrHandle = 4): Promise<void> => {
    await run(guest.execute, PCR_Extend, { pcrHandle, digests: [{ hashAlg: SHA256, digest: digestOf(SHA256, text) }] });
  };

  before(async () => {
    catalog = await catalogOf([statement(['kernel a', 'kernel b'], { good: true })]);
  });
  beforeEach(async () => {
    guest = await openTestTpm({ properties: providersOf(catalog, { presented: (index) => (index <= 7 ? 'certified' : 'digest') }) });
    await extend('kernel a');
  });
  afterEach(() => {
    assert.deepEqual(guest.failures, []);
  });

  it('list the providers, page by page', async () => {
    const { moreData, providers } = await run(guest.execute, Vendor_ListProviders, { first: 0, count: 32 });
    assert.equal(moreData, 0);
    assert.deepEqual(
      providers.map(({ name, presented, attested }) => [name.toString(), presented.toString('hex'), attested.toString('hex')]),
      [
        ['digest', '00ffff', '00ffff'],
        ['certified', 'ff0000', 'ff0000'],
        ['platform', '000000', '000000'],
        ['log', '000000', '000000'],
      ],
    );
    const page = await run(guest.execute, Vendor_ListProviders, { first: 1, count: 2 });
    assert.equal(page.moreData, 1);
    assert.deepEqual(
      page.providers.map(({ name }) => name.toString()),
      ['certified', 'platform'],
    );
    for (const first of [4, 0xffffffff]) {
      const after = await run(guest.execute, Vendor_ListProviders, { first, count: 0xffffffff });
      assert.deepEqual([after.moreData, after.providers], [0, []]);
    }
  });

  it('read any vector', async () => {
    const read = async (provider: string): Promise<Buffer | undefined> =>
      (await run(guest.execute, Vendor_ReadVector, { provider: named(provider), pcrSelectionIn: selection(4) })).pcrValues[0];
    assert.deepEqual(await read('digest'), digest);
    assert.deepEqual(await read('certified'), certified);
    const all = await run(guest.execute, Vendor_ReadVector, {
      provider: named('certified'),
      pcrSelectionIn: selection(...Array(24).keys()),
    });
    const ordinary = await run(guest.execute, PCR_Read, { pcrSelectionIn: selection(4) });
    assert.equal(all.pcrValues.length, 8);
    assert.deepEqual(all.pcrSelectionOut, selection(0, 1, 2, 3, 4, 5, 6, 7));
    assert.equal(all.pcrUpdateCounter, ordinary.pcrUpdateCounter);
    for (const provider of ['', 'nobody', 'certified\0', 'Digest']) {
      const request = { provider: named(provider), pcrSelectionIn: selection(4) };
      await expectCode(guest.execute, TPM_RC.VALUE | PARAMETER_1, Vendor_ReadVector, request);
    }
  });

  it('PolicyPCR of a vector has a digest of its own, and ends with any change of a PCR', async () => {
    const { execute } = guest;
    const session = await ClientSession.start(execute, { type: TPM_SE.POLICY });
    const about = { policySession: session.handle, pcrDigest: none, pcrs: selection(4) };
    await run(execute, Vendor_PolicyPCR, { ...about, provider: named('digest') });
    const { policyDigest } = await run(execute, PolicyGetDigest, { policySession: session.handle });
    const code = Buffer.alloc(4);
    code.writeUInt32BE(TPM_CC.Vendor_PolicyPCR);
    const name = encode(TPM2B_PROVIDER, named('digest'));
    assert.deepEqual(policyDigest, hash(SHA256, zero, code, name, encode(TPML_PCR_SELECTION, selection(4)), hash(SHA256, digest)));
    const wrong = { ...about, pcrDigest: hash(SHA256, certified), provider: named('digest') };
    await expectCode(execute, TPM_RC.VALUE | 0x240, Vendor_PolicyPCR, wrong);
    await expectCode(execute, TPM_RC.VALUE | PARAMETER_1, Vendor_PolicyPCR, { ...about, provider: named('nobody') });
    await extend('anything', 10);
    await expectCode(execute, TPM_RC.PCR_CHANGED, Vendor_PolicyPCR, { ...about, provider: named('digest') });
    await expectCode(execute, TPM_RC.PCR_CHANGED, PolicyPCR, about);
  });

  it('a secret sealed to a vector that is not presented opens by that vector alone', async () => {
    const { execute } = guest;
    const parent = {
      ...asParent(eccTemplate(TPM_ECC_CURVE.NIST_P256)),
      objectAttributes: FIXED | TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt,
    };
    const top = await run(execute, CreatePrimary, { primaryHandle: TPM_RH.OWNER, inPublic: parent, ...creation });
    const trial = await ClientSession.start(execute, { type: TPM_SE.TRIAL });
    await run(execute, Vendor_PolicyPCR, { policySession: trial.handle, provider: named('digest'), pcrDigest: none, pcrs: selection(4) });
    const { policyDigest } = await run(execute, PolicyGetDigest, { policySession: trial.handle });
    const made = await run(execute, Create, {
      parentHandle: top.objectHandle,
      ...creation,
      inSensitive: { userAuth: none, data: Buffer.from('secret') },
      inPublic: {
        type: TPM_ALG.KEYEDHASH,
        nameAlg: SHA256,
        objectAttributes: TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent,
        authPolicy: Buffer.from(policyDigest),
        parameters: { scheme: { scheme: TPM_ALG.NULL, details: null } },
        unique: none,
      },
    });
    const object = await run(execute, Load, { parentHandle: top.objectHandle, inPrivate: made.outPrivate, inPublic: made.outPublic });
    const names = new Map([[object.objectHandle, Buffer.from(object.name)]]);
    const unseal = async (provider: string | undefined): Promise<number> => {
      const session = await ClientSession.start(execute, { type: TPM_SE.POLICY });
      const about = { policySession: session.handle, pcrDigest: none, pcrs: selection(4) };
      if (provider === undefined) await run(execute, PolicyPCR, about);
      else await run(execute, Vendor_PolicyPCR, { ...about, provider: named(provider) });
      const use = { session, withoutAuth: true, attributes: 0 };
      return (await execWithSessions(execute, Unseal, { itemHandle: object.objectHandle }, [use], names)).code;
    };
    assert.equal(await unseal('digest'), 0);
    for (const other of ['certified', 'log', undefined]) assert.notEqual(await unseal(other), 0, other);
  });

  it('Quote of a vector says which, and no other quote can say so', async () => {
    const { execute } = guest;
    const inPublic = { ...eccTemplate(TPM_ECC_CURVE.NIST_P256), objectAttributes: FIXED | TPMA_OBJECT.sign };
    const key = await run(execute, CreatePrimary, { primaryHandle: TPM_RH.OWNER, inPublic, ...creation });
    const nonce = Buffer.from('nonce');
    const request = { signHandle: key.objectHandle, qualifyingData: nonce, inScheme: ecdsa, PCRselect: selection(4) };
    const answer = await run(execute, Vendor_Quote, { ...request, provider: named('digest') });
    const attest = decode(TPMS_ATTEST, answer.quoted);
    assert.ok(attest.type === TPM_ST.ATTEST_QUOTE);
    assert.deepEqual(attest.attested.pcrDigest, hash(SHA256, digest));
    assert.deepEqual(attest.extraData, providerExtraData('digest', nonce));
    assert.notDeepEqual(attest.extraData, providerExtraData('certified', nonce));
    assert.ok(answer.signature.sigAlg === TPM_ALG.ECDSA && verifySignature(key.outPublic, hash(SHA256, answer.quoted), answer.signature));
    const plain = decode(TPMS_ATTEST, (await run(execute, Quote, request)).quoted);
    assert.ok(plain.type === TPM_ST.ATTEST_QUOTE && plain.attested.pcrDigest.equals(hash(SHA256, certified)));
    assert.ok(!isProviderExtraData(plain.extraData));
    const pretending = { ...request, qualifyingData: providerExtraData('certified', nonce) };
    await expectCode(execute, TPM_RC.VALUE | PARAMETER_1, Quote, pretending);
    await expectCode(execute, TPM_RC.VALUE | PARAMETER_1, Vendor_Quote, { ...request, provider: named('nobody') });
    await expectCode(execute, TPM_RC.SCHEME | 0x340, Vendor_Quote, {
      ...request,
      provider: named('digest'),
      inScheme: { scheme: TPM_ALG.NULL, details: null },
    });
    assert.equal(codeOf(await execute(frame(Vendor_Quote, { ...request, provider: named('digest'), signHandle: TPM_RH.NULL }))), 0x3d2);
  });

  it('any bytes are answered, and nothing fails inside', async () => {
    const { execute } = guest;
    const session = await ClientSession.start(execute, { type: TPM_SE.POLICY });
    for (const command of [Vendor_ListProviders, Vendor_ReadVector, Vendor_PolicyPCR, Vendor_Quote] as readonly Command[]) {
      const handles = command.handleList.map(([name]) => (name === 'policySession' ? session.handle : TPM_RH.NULL));
      const anything = fc.oneof(
        arbitraryCommand(command).map(({ parameters }) => parameters),
        fc.uint8Array({ maxLength: 120 }).map((bytes) => Buffer.from(bytes)),
      );
      await fc.assert(
        fc.asyncProperty(anything, fc.nat(), async (parameters, cut) => {
          const bytes = cut % 3 === 0 ? parameters.subarray(0, cut % (parameters.length + 1)) : parameters;
          const response = await execute(rawFrame(command.code, handles, bytes, emptyPasswords(command)));
          assert.equal(response.readUInt32BE(2), response.length);
          assert.notEqual(codeOf(response), TPM_RC.FAILURE);
        }),
        { numRuns: 300 },
      );
    }
  });
});
