// Whoever has the control channel saves the state of a TPM, uses it, and puts the old state back.
import assert from 'node:assert/strict';
import * as Commands from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_NT, TPM_PT, TPM_RH, TPM_SU, TPMA_NV } from '../../../src/tpm/constants/index.js';
import { baseCode, TPM_RC } from '../../../src/tpm/response-code.js';
import { StateRefused } from '../../../src/vtpm/guest-tpm.js';
import { codeOf, frame, none, password, run } from '../../support/frames.js';
import { openTestTpm, type TestTpm } from '../../support/vtpm.js';

const SECRET = 0x01500000;
const COUNTER = 0x01500001;
const ORDERLY_COUNTER = 0x01500002;
const PIN = 0x01500003;
const LATER = 0x01500004;
const { AUTHREAD, AUTHWRITE, OWNERWRITE, NO_DA, ORDERLY } = TPMA_NV;

describe('an older state of a TPM', () => {
  let guest: TestTpm;

  const define = (nvIndex: number, attributes: number, auth = ''): Promise<unknown> =>
    run(guest.execute, Commands.NV_DefineSpace, {
      authHandle: TPM_RH.OWNER,
      auth: Buffer.from(auth),
      publicInfo: { nvIndex, nameAlg: TPM_ALG.SHA256, attributes: attributes >>> 0, authPolicy: none, dataSize: 8 },
    });
  const write = (nvIndex: number, data: Buffer): Promise<unknown> =>
    run(guest.execute, Commands.NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data, offset: 0 });
  const tryRead = async (nvIndex: number, auth: string): Promise<number> =>
    baseCode(codeOf(await guest.execute(frame(Commands.NV_Read, { authHandle: nvIndex, nvIndex, size: 8, offset: 0 }, [password(auth)]))));
  const increment = (nvIndex: number): Promise<unknown> => run(guest.execute, Commands.NV_Increment, { authHandle: nvIndex, nvIndex });
  const count = async (nvIndex: number): Promise<bigint> =>
    (await run(guest.execute, Commands.NV_Read, { authHandle: nvIndex, nvIndex, size: 8, offset: 0 })).data.readBigUInt64BE();
  const failures = async (): Promise<number> => {
    const request = { capability: TPM_CAP.TPM_PROPERTIES, property: TPM_PT.LOCKOUT_COUNTER, propertyCount: 1 } as const;
    const { capabilityData } = await run(guest.execute, Commands.GetCapability, request);
    return capabilityData.capability === TPM_CAP.TPM_PROPERTIES ? (capabilityData.data[0]?.value ?? -1) : -1;
  };
  const save = async (): Promise<Record<'permanent' | 'volatile', Buffer>> => ({
    permanent: await guest.tpm.getState('permanent'),
    volatile: await guest.tpm.getState('volatile'),
  });
  const restore = async (blobs: Partial<Record<'permanent' | 'volatile', Buffer>>): Promise<void> => {
    await guest.tpm.powerOff(true);
    for (const part of ['permanent', 'volatile'] as const) {
      const blob = blobs[part];
      if (blob !== undefined) await guest.tpm.setState(part, blob);
    }
    await guest.tpm.init(true);
    if (blobs.volatile === undefined) await run(guest.execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
  };

  async function begin(snapshots: boolean): Promise<void> {
    guest = await openTestTpm({ snapshots });
    const parameters = { lockHandle: TPM_RH.LOCKOUT, newMaxTries: 3, newRecoveryTime: 1000, lockoutRecovery: 1000 };
    await run(guest.execute, Commands.DictionaryAttackParameters, parameters);
    await define(SECRET, AUTHREAD | OWNERWRITE, 'secret');
    await write(SECRET, Buffer.from('a secret'));
    for (const [index, more] of [
      [COUNTER, 0],
      [ORDERLY_COUNTER, ORDERLY],
    ] as const) {
      await define(index, AUTHREAD | AUTHWRITE | NO_DA | more | (TPM_NT.COUNTER << 4));
      await increment(index);
    }
    await define(PIN, AUTHREAD | OWNERWRITE | NO_DA | (TPM_NT.PIN_FAIL << 4), 'pin');
    await write(PIN, Buffer.from('0000000000000005', 'hex'));
  }

  it('is refused, part by part, and the guest goes on as it is', async () => {
    await begin(false);
    const old = await save();
    assert.equal(await tryRead(SECRET, 'guess'), TPM_RC.AUTH_FAIL);
    await increment(COUNTER);
    const counted = await count(COUNTER);
    await guest.tpm.powerOff(true);
    for (const part of ['permanent', 'volatile'] as const) {
      await assert.rejects(guest.tpm.setState(part, old[part]), (error) => {
        assert.ok(error instanceof StateRefused);
        assert.match(error.message, /older than what the guest has, by 2 changes; 'snapshots: allow'/);
        return true;
      });
    }
    await guest.tpm.init(true);
    await run(guest.execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    assert.equal(await count(COUNTER), counted);
    assert.equal(await failures(), 1);
  });

  it('that STORE_VOLATILE left is refused as well, once', async () => {
    await begin(false);
    await guest.tpm.storeVolatile();
    assert.equal(await tryRead(SECRET, 'guess'), TPM_RC.AUTH_FAIL);
    await guest.tpm.powerOff(true);
    await assert.rejects(guest.tpm.init(false), /older/);
    await guest.tpm.init(false);
    await run(guest.execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    assert.equal(await failures(), 1);
  });

  it('is none where only the power has gone since, and none of the guest has changed anything durable', async () => {
    await begin(false);
    await run(guest.execute, Commands.PCR_Extend, {
      pcrHandle: 10,
      digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 3) }],
    });
    const value = guest.tpm.readPcr(TPM_ALG.SHA256, 10);
    const blobs = await save();
    await run(guest.execute, Commands.GetRandom, { bytesRequested: 8 });
    for (let i = 0; i < 2; i++) {
      await restore(blobs);
      assert.deepEqual(guest.tpm.readPcr(TPM_ALG.SHA256, 10), value);
      assert.equal(codeOf(await guest.execute(frame(Commands.GetRandom, { bytesRequested: 8 }))), 0);
    }
  });

  it('that is allowed takes no failed authorization back: the lockout comes as ever', async () => {
    await begin(true);
    const old = await save();
    for (const [tried, parts] of (['permanent', 'volatile', 'both'] as const).entries()) {
      assert.equal(await tryRead(SECRET, 'guess'), TPM_RC.AUTH_FAIL, parts);
      await restore(parts === 'both' ? old : { [parts]: old[parts] });
      assert.equal(await failures(), tried + 1, parts);
    }
    assert.equal(await tryRead(SECRET, 'secret'), TPM_RC.LOCKOUT);
  });

  it('that is allowed takes no NV counter and no count of a PIN back, but all else', async () => {
    await begin(true);
    const old = await save();
    for (let i = 0; i < 5; i++) for (const index of [COUNTER, ORDERLY_COUNTER]) await increment(index);
    const counted = await count(COUNTER);
    assert.equal(await count(ORDERLY_COUNTER), counted);
    for (let i = 0; i < 3; i++) assert.equal(await tryRead(PIN, 'guess'), TPM_RC.BAD_AUTH);
    await write(SECRET, Buffer.from('another.'));
    for (const parts of [old, { volatile: old.volatile }, { permanent: old.permanent }, old]) {
      await restore(parts);
      assert.equal(await count(COUNTER), counted);
      // After an end without order, as the state of a TPM that ran has it, an orderly counter goes on further ahead.
      assert.ok((await count(ORDERLY_COUNTER)) >= counted);
    }
    const { data } = await run(guest.execute, Commands.NV_Read, { authHandle: SECRET, nvIndex: SECRET, size: 8, offset: 0 }, [
      password('secret'),
    ]);
    assert.equal(data.toString(), 'a secret');
    for (let i = 0; i < 2; i++) assert.equal(await tryRead(PIN, 'guess'), TPM_RC.BAD_AUTH);
    assert.equal(await tryRead(PIN, 'pin'), TPM_RC.AUTH_UNAVAILABLE);
  });

  it('that is allowed lets no counter begin again that was deleted or made since', async () => {
    await begin(true);
    const old = await save();
    for (let i = 0; i < 5; i++) await increment(COUNTER);
    const last = await count(COUNTER);
    await run(guest.execute, Commands.NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex: COUNTER });
    await define(LATER, AUTHREAD | AUTHWRITE | NO_DA | (TPM_NT.COUNTER << 4));
    for (let i = 0; i < 4; i++) await increment(LATER);
    const later = await count(LATER);
    await restore(old);
    assert.ok((await count(COUNTER)) >= last, 'the one that was deleted');
    await define(LATER, AUTHREAD | AUTHWRITE | NO_DA | (TPM_NT.COUNTER << 4));
    await increment(LATER);
    assert.ok((await count(LATER)) > later, 'the one that was made since');
  });

  it('that is allowed is a newer one from then on: another one is older still', async () => {
    await begin(true);
    const first = await save();
    await write(SECRET, Buffer.from('second..'));
    const second = await save();
    await restore(first);
    const third = await save();
    await restore(second);
    await assert.doesNotReject(restore(third));
  });
});
