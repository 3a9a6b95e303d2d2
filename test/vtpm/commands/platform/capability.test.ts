// GetCapability and TestParms, side by side with swtpm.
import assert from 'node:assert/strict';
import {
  commandTable,
  GetCapability,
  HashSequenceStart,
  SetPrimaryPolicy,
  StartAuthSession,
  TestParms,
} from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_CC, TPM_ECC_CURVE, TPM_PT, TPM_RH, TPM_SE, TPMA_CC } from '../../../../src/tpm/constants/index.js';
import type { TPMS_CAPABILITY_DATA, TPMT_PUBLIC_PARMS } from '../../../../src/tpm/structures/index.js';
import { atParameter, TPM_RC } from '../../../../src/tpm/response-code.js';
import { servedCommands } from '../../../../src/vtpm/handlers.js';
import { defaultLimits } from '../../../../src/vtpm/limits.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { frame, none, parse, rawFrame, run } from '../../../support/frames.js';

type Data<C extends TPMS_CAPABILITY_DATA['capability']> = Extract<TPMS_CAPABILITY_DATA, { capability: C }>['data'];

describe('GetCapability', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });

  const ask = (capability: number, property: number, propertyCount: number): Buffer =>
    frame(GetCapability, { capability: capability as TPM_CAP, property, propertyCount });
  const same = async (capability: number, property: number, counts: readonly number[] = [0, 1, 2, 100, 0xffffffff]): Promise<void> => {
    for (const count of counts) {
      await both.same(
        ask(capability, property, count),
        0,
        `capability ${capability.toString()}, ${property.toString(16)}, ${count.toString()}`,
      );
    }
  };
  async function ours<C extends TPMS_CAPABILITY_DATA['capability']>(capability: C, property: number): Promise<Data<C>> {
    const { capabilityData } = await run(both.ours.execute, GetCapability, { capability, property, propertyCount: 1000 });
    return capabilityData.data as Data<C>;
  }

  it('PCRs, their properties and handles', async () => {
    await same(TPM_CAP.PCRS, 0);
    await same(TPM_CAP.PCRS, 1);
    for (const property of [0, 1, 5, 0x0b, 0x11, 0x14, 0x15, 0xffffffff])
      await same(TPM_CAP.PCR_PROPERTIES, property, [0, 1, 3, 11, 12, 14, 15, 100]);
    for (const handle of [0, 5, 23, 24, 0xffffff]) await same(TPM_CAP.HANDLES, handle, [0, 1, 10, 24, 1000]);
  });

  it('permanent, session, transient, persistent and NV handles', async () => {
    await both.run(HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 });
    for (const sessionType of [TPM_SE.HMAC, TPM_SE.POLICY]) {
      const symmetric = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null };
      const handles = { tpmKey: TPM_RH.NULL, bind: TPM_RH.NULL };
      const request = { ...handles, nonceCaller: Buffer.alloc(32), encryptedSalt: none, sessionType, symmetric, authHash: TPM_ALG.SHA256 };
      await both.run(StartAuthSession, request, []);
    }
    for (const handle of [0x40000000, 0x40000001, 0x40000008, 0x4000000d, 0x4000000e, 0x400000ff, 0x40ffffff])
      await same(TPM_CAP.HANDLES, handle);
    for (const handle of [0x02000000, 0x02000001, 0x02000002, 0x02000040, 0x03000000, 0x80000000, 0x80000001, 0x81000000, 0x01000000]) {
      await same(TPM_CAP.HANDLES, handle);
    }
    for (const handle of [0x04000000, 0x90000000, 0xff000000]) await same(TPM_CAP.HANDLES, handle, [1]);
  });

  it('policies of permanent handles', async () => {
    const policy = { authPolicy: Buffer.alloc(48, 3), hashAlg: TPM_ALG.SHA384 } as const;
    await both.runSame(SetPrimaryPolicy, { authHandle: TPM_RH.LOCKOUT, ...policy });
    for (const handle of [0x40000000, 0x40000002, 0x4000000b, 0x4000000c, 0x4000000d, 0x80000000, 0])
      await same(TPM_CAP.AUTH_POLICIES, handle);
  });

  it('countdown timers, vendor properties, unknown capabilities', async () => {
    await same(TPM_CAP.ACT, 0x40000110, [1, 10]);
    await same(TPM_CAP.ACT, 0, [1]);
    await same(TPM_CAP.ACT, 0x40000120, [1]);
    await same(TPM_CAP.VENDOR_PROPERTY, 0, [1]);
    for (const capability of [0x0b, 0xff, 0x101, 0xffffffff]) await same(capability, 0, [1]);
    await both.sameCode(rawFrame(GetCapability.code, [], Buffer.alloc(11)));
    await both.sameCode(rawFrame(GetCapability.code, [], Buffer.alloc(13)));
  });

  it('fixed properties are true', async () => {
    const own: readonly number[] = [
      TPM_PT.REVISION,
      TPM_PT.DAY_OF_YEAR,
      TPM_PT.YEAR,
      TPM_PT.PS_REVISION,
      TPM_PT.PS_DAY_OF_YEAR,
      TPM_PT.PS_YEAR,
      TPM_PT.MANUFACTURER,
      TPM_PT.VENDOR_STRING_1,
      TPM_PT.VENDOR_STRING_2,
      TPM_PT.FIRMWARE_VERSION_1,
      TPM_PT.FIRMWARE_VERSION_2,
      TPM_PT.HR_TRANSIENT_MIN,
      TPM_PT.HR_PERSISTENT_MIN,
      TPM_PT.HR_LOADED_MIN,
      TPM_PT.ACTIVE_SESSIONS_MAX,
      TPM_PT.CONTEXT_GAP_MAX,
      TPM_PT.MAX_OBJECT_CONTEXT,
      TPM_PT.MAX_SESSION_CONTEXT,
      TPM_PT.SPLIT_MAX,
      TPM_PT.TOTAL_COMMANDS,
      TPM_PT.LIBRARY_COMMANDS,
      TPM_PT.VENDOR_COMMANDS,
    ];
    const answers = await both.both(ask(TPM_CAP.TPM_PROPERTIES, TPM_PT.FIXED, 1000));
    const [mine, theirs] = [answers.ours, answers.theirs].map(
      (answer) => parse(GetCapability, answer).out?.capabilityData.data as Data<typeof TPM_CAP.TPM_PROPERTIES>,
    );
    assert.ok(mine !== undefined && theirs !== undefined);
    assert.deepEqual(
      mine.map(({ property }) => property),
      theirs.map(({ property }) => property),
    );
    const shared = (list: typeof mine): typeof mine => list.filter(({ property }) => !own.includes(property));
    assert.deepEqual(shared(mine), shared(theirs));
    const value = (property: number): number | undefined => mine.find((one) => one.property === property)?.value;
    assert.equal(value(TPM_PT.MANUFACTURER), 0x54504d58);
    assert.equal(value(TPM_PT.FIRMWARE_VERSION_1), 1);
    assert.equal(value(TPM_PT.HR_TRANSIENT_MIN), defaultLimits.loadedObjects);
    assert.equal(value(TPM_PT.TOTAL_COMMANDS), servedCommands.size);
    assert.equal(value(TPM_PT.VENDOR_COMMANDS), 8);
  });

  it('properties come in groups', async () => {
    for (const property of [0, 0xff, 0x100]) await same(TPM_CAP.TPM_PROPERTIES, property, [0, 1, 2]);
    for (const property of [0x12f, 0x1ff, 0x20e, 0x212, 0x215, 0x2ff, 0x300, 0x1000, 0xffffffff])
      await same(TPM_CAP.TPM_PROPERTIES, property);
    for (const property of [0x200, 0x201, 0x202, 0x203, 0x205, 0x208, 0x20a]) await same(TPM_CAP.TPM_PROPERTIES, property, [1]);
    const all = await ours(TPM_CAP.TPM_PROPERTIES, TPM_PT.VAR);
    assert.equal(all.length, 21);
  });

  it('algorithms and curves are those of swtpm, without what is not served', async () => {
    const theirs = async <C extends TPMS_CAPABILITY_DATA['capability']>(capability: C): Promise<Data<C>> =>
      (await run(both.theirs.execute, GetCapability, { capability, property: 0, propertyCount: 1000 })).capabilityData.data as Data<C>;
    const missing: readonly number[] = [TPM_ALG.ECDAA, TPM_ALG.ECMQV, TPM_ALG.CMAC, TPM_ALG.SM2];
    const reference = (await theirs(TPM_CAP.ALGS)).filter(({ alg }) => !missing.includes(alg));
    assert.deepEqual(
      (await ours(TPM_CAP.ALGS, 0)).filter(({ alg }) => !missing.includes(alg)),
      reference,
    );
    assert.deepEqual(await ours(TPM_CAP.ECC_CURVES, 0), await theirs(TPM_CAP.ECC_CURVES));
    await same(TPM_CAP.ECC_CURVES, 3, [1, 2]);
    await same(TPM_CAP.ECC_CURVES, 0x21);
    for (const alg of [0, 1, 0x0b, 0x10006]) await same(TPM_CAP.ALGS, alg, [0, 1, 3]);
    await same(TPM_CAP.ALGS, 0x44);
    await same(TPM_CAP.ALGS, 0x45);
  });

  it('commands: attributes are those of swtpm; the list is what is served', async () => {
    const theirs = await run(both.theirs.execute, GetCapability, { capability: TPM_CAP.COMMANDS, property: 0, propertyCount: 1000 });
    const reference = new Map((theirs.capabilityData.data as Data<typeof TPM_CAP.COMMANDS>).map((cca) => [cca & 0x2000ffff, cca]));
    const mine = await ours(TPM_CAP.COMMANDS, 0);
    assert.deepEqual(
      mine.map((cca) => cca & 0x2000ffff),
      [...servedCommands.keys()].sort((a, b) => a - b),
    );
    for (const cca of mine.filter((one) => (one & TPMA_CC.commandIndex) < 0x5000))
      assert.equal(cca, reference.get(cca & 0x2000ffff), `attributes of ${commandTable.get(cca & 0xffff)?.name ?? '?'}`);
    // What Linux goes by in /dev/tpmrm0: vendor bit, handles of the command, and that none comes back.
    assert.deepEqual(
      mine.filter((one) => (one & TPMA_CC.commandIndex) >= 0x5000).map((one) => one.toString(16)),
      ['5001', '5002', '2005003', '2005004', '20005001', '20005002', '22005003', '22005004'],
    );
    assert.deepEqual(await ours(TPM_CAP.COMMANDS, TPM_CC.Vendor_ListProviders), mine.slice(-4));
    await same(TPM_CAP.COMMANDS, TPM_CC.PCR_Read, [0, 1]);
    await same(TPM_CAP.COMMANDS, 0x10000, [1]);
    await same(TPM_CAP.COMMANDS, 0x20005005, [1]);
    await same(TPM_CAP.PP_COMMANDS, TPM_CC.PP_Commands + 1);
  });

  it('TestParms', async () => {
    const none = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
    const noScheme = { scheme: TPM_ALG.NULL, details: null } as const;
    const parms: TPMT_PUBLIC_PARMS[] = [
      ...[TPM_ECC_CURVE.NIST_P256, TPM_ECC_CURVE.NIST_P384, TPM_ECC_CURVE.NIST_P521].map((curveID): TPMT_PUBLIC_PARMS => {
        return { type: TPM_ALG.ECC, parameters: { symmetric: none, scheme: noScheme, curveID, kdf: noScheme } };
      }),
      ...([1024, 2048, 3072] as const).map((keyBits): TPMT_PUBLIC_PARMS => {
        return { type: TPM_ALG.RSA, parameters: { symmetric: none, scheme: noScheme, keyBits, exponent: 0 } };
      }),
      { type: TPM_ALG.SYMCIPHER, parameters: { sym: { algorithm: TPM_ALG.AES, keyBits: 256, mode: TPM_ALG.CTR } } },
      { type: TPM_ALG.KEYEDHASH, parameters: { scheme: { scheme: TPM_ALG.HMAC, details: { hashAlg: TPM_ALG.SHA512 } } } },
    ];
    for (const parameters of parms) assert.equal(await both.code(TestParms, { parameters }), 0);
    const tooLarge = { type: TPM_ALG.RSA, parameters: { symmetric: none, scheme: noScheme, keyBits: 4096, exponent: 0 } } as const;
    assert.equal(await both.code(TestParms, { parameters: tooLarge }), atParameter(TPM_RC.VALUE, 1));
    for (const hex of [
      '0099',
      '0001',
      '000100100010999900000000',
      '00250006000700',
      '0025000600c00043',
      '002300100010002200100010',
      '0008000a0027',
    ]) {
      await both.sameCode(rawFrame(TestParms.code, [], Buffer.from(hex, 'hex')));
    }
  });
});
