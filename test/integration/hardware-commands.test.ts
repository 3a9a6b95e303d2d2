// What guest commands cost the chip, as the chip side counts it.
import assert from 'node:assert/strict';
import type { Hardware } from '../../src/hardware/hardware.js';
import { TPM_ALG, TPM_CAP, TPM_CC, TPM_ECC_CURVE, TPM_RH, TPM_SE, TPMA_NV, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { Bench } from '../hardware/fixture.js';
import { openChipGuest } from '../support/chip-guest.js';
import { duplicateSession, free, noCipher, primary } from '../support/duplication.js';
import { none, run } from '../support/frames.js';
import { ClientSession, runWithSessions } from '../support/sessions.js';
import { asParent, eccTemplate, rsaTemplate, sealTemplate } from '../support/templates.js';
import type { TestTpm } from '../support/vtpm.js';

const FIXED = TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth;
const digest = Buffer.alloc(32, 7);
const nullTicket = { tag: 0x8024, hierarchy: TPM_RH.NULL, digest: none } as const;
const ecdsa = { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } } as const;

const parentTemplate: TPMT_PUBLIC = {
  ...asParent(eccTemplate(TPM_ECC_CURVE.NIST_P256)),
  objectAttributes: FIXED | TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt,
};
const signTemplate: TPMT_PUBLIC = { ...eccTemplate(TPM_ECC_CURVE.NIST_P256), objectAttributes: FIXED | TPMA_OBJECT.sign };
const primaryRequest = (inPublic: TPMT_PUBLIC, primaryHandle: number = TPM_RH.OWNER) => ({
  primaryHandle,
  inSensitive: { userAuth: none, data: none },
  inPublic,
  outsideInfo: none,
  creationPCR: [],
});

describe('hardware commands of guest commands', () => {
  let bench: Bench;
  let hardware: Hardware;
  let guest: TestTpm;
  let parent: number;

  before(async () => {
    bench = await Bench.start();
    hardware = await bench.open();
    guest = await openChipGuest(hardware, 'alice');
    parent = (await run(guest.execute, Commands.CreatePrimary, primaryRequest(parentTemplate))).objectHandle;
  });
  after(() => bench.stop());

  /** Names of the commands that reached the chip. */
  const cost = (use: () => Promise<unknown>): Promise<string[]> => bench.commandsOf(use);
  const costsNothing = async (what: string, use: () => Promise<unknown>): Promise<void> => {
    assert.deepEqual(await cost(use), [], what);
  };

  async function newKey(): Promise<number> {
    const { execute } = guest;
    const made = await run(execute, Commands.Create, {
      parentHandle: parent,
      inSensitive: { userAuth: none, data: none },
      inPublic: signTemplate,
      outsideInfo: none,
      creationPCR: [],
    });
    return (await run(execute, Commands.Load, { parentHandle: parent, inPrivate: made.outPrivate, inPublic: made.outPublic })).objectHandle;
  }
  const sign = (keyHandle: number) => run(guest.execute, Commands.Sign, { keyHandle, digest, inScheme: ecdsa, validation: nullTicket });

  it('Sign: exactly one with a hot key, at most three with a cold one whose context is saved', async () => {
    const keys = [];
    for (let i = 0; i < 6; i++) keys.push(await newKey());
    for (const key of keys) await sign(key);
    for (const key of keys) await sign(key);
    for (const key of keys) {
      const cold = await cost(() => sign(key));
      assert.ok(cold.length <= 3, `cold: ${cold.join(', ')}`);
      assert.equal(cold.at(-1), 'Sign');
      assert.deepEqual(await cost(() => sign(key)), ['Sign']);
    }
    for (const flushHandle of keys) await run(guest.execute, Commands.FlushContext, { flushHandle });
  });

  it('Duplicate: six for a key that is loaded, one for a secret that is', async () => {
    const { execute } = guest;
    const kinds: [TPMT_PUBLIC, string[]][] = [
      [
        free(eccTemplate(TPM_ECC_CURVE.NIST_P256), TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.sign),
        ['LoadExternal', 'StartAuthSession', 'PolicyCommandCode', 'Duplicate', 'FlushContext', 'FlushContext'],
      ],
      [free(sealTemplate()), ['ECDH_ZGen']],
    ];
    for (const [inPublic, commands] of kinds) {
      const data = inPublic.type === TPM_ALG.KEYEDHASH ? Buffer.from('secret') : none;
      const { handle } = await primary(execute, inPublic, data);
      const request = { objectHandle: handle, newParentHandle: TPM_RH.NULL, encryptionKeyIn: none, symmetricAlg: noCipher };
      const duplicate = async (): Promise<unknown> => run(execute, Commands.Duplicate, request, await duplicateSession(execute));
      await duplicate();
      assert.deepEqual(await cost(duplicate), commands);
      await run(execute, Commands.FlushContext, { flushHandle: handle });
    }
  });

  it('nothing for PCRs, capabilities, clock, random numbers and hierarchies', async () => {
    const { execute } = guest;
    await costsNothing('PCR_Extend', () =>
      run(execute, Commands.PCR_Extend, { pcrHandle: 10, digests: [{ hashAlg: TPM_ALG.SHA256, digest }] }),
    );
    await costsNothing('PCR_Read', () =>
      run(execute, Commands.PCR_Read, { pcrSelectionIn: [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([0, 4, 0]) }] }),
    );
    await costsNothing('GetCapability', () =>
      run(execute, Commands.GetCapability, { capability: TPM_CAP.COMMANDS, property: TPM_CC.NV_UndefineSpaceSpecial, propertyCount: 200 }),
    );
    await costsNothing('GetRandom', () => run(execute, Commands.GetRandom, { bytesRequested: 32 }));
    await costsNothing('ReadClock', () => run(execute, Commands.ReadClock, {}));
    await costsNothing('SelfTest', () => run(execute, Commands.SelfTest, { fullTest: 1 }));
    await costsNothing('HierarchyChangeAuth', () =>
      run(execute, Commands.HierarchyChangeAuth, { authHandle: TPM_RH.ENDORSEMENT, newAuth: none }),
    );
  });

  it('nothing for sessions and policies', async () => {
    const { execute } = guest;
    await costsNothing('unsalted session', async () => {
      const session = await ClientSession.start(execute);
      await runWithSessions(execute, Commands.GetRandom, { bytesRequested: 8 }, [{ session, attributes: 0x80 }]);
    });
    const primaryKey = await run(execute, Commands.CreatePrimary, primaryRequest(parentTemplate, TPM_RH.NULL));
    await costsNothing('session salted to a key of the NULL hierarchy', async () => {
      const salt = { handle: primaryKey.objectHandle, publicArea: primaryKey.outPublic };
      const session = await ClientSession.start(execute, { salt });
      await runWithSessions(execute, Commands.GetRandom, { bytesRequested: 8 }, [{ session, attributes: 0x80 }]);
    });
    await costsNothing('policy commands', async () => {
      const { handle } = await ClientSession.start(execute, { type: TPM_SE.POLICY });
      await run(execute, Commands.PolicyPCR, {
        policySession: handle,
        pcrDigest: none,
        pcrs: [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([1, 0, 0]) }],
      });
      await run(execute, Commands.PolicyAuthValue, { policySession: handle });
      await run(execute, Commands.PolicyGetDigest, { policySession: handle });
      await run(execute, Commands.FlushContext, { flushHandle: handle });
    });
    await run(execute, Commands.FlushContext, { flushHandle: primaryKey.objectHandle });
  });

  it('nothing for NV', async () => {
    const { execute } = guest;
    const attributes = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE;
    const nvPublic = { nvIndex: 0x01500001, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: none, dataSize: 16 } as const;
    const on = { authHandle: TPM_RH.OWNER, nvIndex: nvPublic.nvIndex };
    await costsNothing('NV_DefineSpace', () =>
      run(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo: nvPublic }),
    );
    await costsNothing('NV_Write', () => run(execute, Commands.NV_Write, { ...on, data: Buffer.from('0123456789abcdef'), offset: 0 }));
    await costsNothing('NV_Read', () => run(execute, Commands.NV_Read, { ...on, size: 16, offset: 0 }));
  });

  it('nothing for Load, ReadPublic, contexts and the second CreatePrimary, whose key is loaded when it is used', async () => {
    const { execute } = guest;
    const made = await run(execute, Commands.Create, {
      parentHandle: parent,
      inSensitive: { userAuth: none, data: none },
      inPublic: signTemplate,
      outsideInfo: none,
      creationPCR: [],
    });
    await costsNothing('Load and ReadPublic', async () => {
      const { objectHandle } = await run(execute, Commands.Load, {
        parentHandle: parent,
        inPrivate: made.outPrivate,
        inPublic: made.outPublic,
      });
      await run(execute, Commands.ReadPublic, { objectHandle });
      const { context } = await run(execute, Commands.ContextSave, { saveHandle: objectHandle });
      await run(execute, Commands.FlushContext, { flushHandle: objectHandle });
      const { loadedHandle } = await run(execute, Commands.ContextLoad, { context });
      await run(execute, Commands.FlushContext, { flushHandle: loadedHandle });
    });
    const primary = { ...signTemplate, unique: { x: Buffer.from('second'), y: none } } as TPMT_PUBLIC;
    const first = await run(execute, Commands.CreatePrimary, primaryRequest(primary));
    await run(execute, Commands.FlushContext, { flushHandle: first.objectHandle });
    let again = 0;
    await costsNothing('CreatePrimary again', async () => {
      again = (await run(execute, Commands.CreatePrimary, primaryRequest(primary))).objectHandle;
    });
    assert.equal((await cost(() => sign(again))).at(-1), 'Sign');
    await run(execute, Commands.FlushContext, { flushHandle: again });
  });

  it('the NULL hierarchy never reaches the chip, RSA included', async () => {
    const rsa: TPMT_PUBLIC = { ...rsaTemplate(2048), objectAttributes: FIXED | TPMA_OBJECT.sign };
    await costsNothing('CreatePrimary', async () => {
      const { objectHandle } = await run(guest.execute, Commands.CreatePrimary, primaryRequest(rsa, TPM_RH.NULL));
      await run(guest.execute, Commands.FlushContext, { flushHandle: objectHandle });
    });
  });

  it('counts per guest and command what the chip side saw', async () => {
    const fresh = await openChipGuest(hardware, 'bob');
    const seen = await cost(() => run(fresh.execute, Commands.CreatePrimary, primaryRequest(signTemplate)));
    const counted = fresh.account.counters().find(({ command }) => command === 'CreatePrimary');
    assert.ok(counted);
    assert.deepEqual([counted.hardwareCommands, counted.calls], [seen.length, 1]);
  });
});
