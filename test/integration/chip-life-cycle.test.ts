// The chip goes away, fails, is cleared or replaced while guests run: what needs no chip goes on, the rest is told so at once and works again
// when the cause is gone.
import assert from 'node:assert/strict';
import { Occupant } from '../../src/hardware/occupant.js';
import { listHandles } from '../../src/hardware/chip/sender.js';
import { createHash, randomBytes, verify } from 'node:crypto';
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { Chip } from '../../src/hardware/chip/chip.js';
import type { Hardware } from '../../src/hardware/hardware.js';
import { DEFAULT_HOST_ROOT_HANDLE } from '../../src/hardware/host/keys.js';
import { Tcti } from '../../src/native/index.js';
import { TPM_ALG, TPM_CC, TPM_ECC_CURVE, TPM_RH, TPM_ST, TPMA_NV, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import type { Request, Response } from '../../src/tpm/command.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { Bench, ECDSA_SHA256, nodeKey, p1363, TestLog } from '../hardware/fixture.js';
import { openChipGuest } from '../support/chip-guest.js';
import { type AnyCommand, codeOf, type Execute, frame, none, run } from '../support/frames.js';
import { commandCode } from '../support/relay.js';
import { eccTemplate, asParent, sealTemplate } from '../support/templates.js';
import type { TestTpm } from '../support/vtpm.js';
import { waitFor } from '../support/wait-for.js';

const nvIndex = 0x01500001;
const persistentHandle = 0x81000007;
const signing: TPMT_PUBLIC = {
  ...eccTemplate(TPM_ECC_CURVE.NIST_P256),
  objectAttributes:
    TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign,
};
const primary = (inPublic: TPMT_PUBLIC) => ({
  primaryHandle: TPM_RH.OWNER,
  inSensitive: { userAuth: none, data: none },
  inPublic,
  outsideInfo: none,
  creationPCR: [],
});
const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;

/** A command that is sent again while the answer is TPM_RC_RETRY, as every driver does. */
async function patient<C extends AnyCommand>(execute: Execute, command: C, values: Request<C>): Promise<Response<C>> {
  const response = await waitFor(
    async () => {
      const answer = await execute(frame(command, values));
      return codeOf(answer) !== TPM_RC.RETRY && answer;
    },
    () => `${command.name} is to be retried for ever`,
  );
  return await run(() => Promise.resolve(response), command, values);
}

async function sign(execute: Execute, keyHandle: number, publicArea: TPMT_PUBLIC): Promise<boolean> {
  const message = randomBytes(20);
  const digest = createHash('sha256').update(message).digest();
  const request = { keyHandle, digest, inScheme: ECDSA_SHA256, validation: noTicket };
  const { signature } = await patient(execute, Commands.Sign, request);
  return verify('sha256', message, { key: nodeKey(publicArea), dsaEncoding: 'ieee-p1363' }, p1363(signature, 32));
}

const extend = (execute: Execute): Promise<unknown> =>
  run(execute, Commands.PCR_Extend, { pcrHandle: 10, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }] });

/** All kinds of things that need the chip, and what is durable. */
async function workload(execute: Execute): Promise<void> {
  const key = await patient(execute, Commands.CreatePrimary, primary(signing));
  assert.ok(await sign(execute, key.objectHandle, key.outPublic));
  const evict = { auth: TPM_RH.OWNER, objectHandle: key.objectHandle, persistentHandle };
  await patient(execute, Commands.EvictControl, evict);
  const parent = await patient(execute, Commands.CreatePrimary, primary(asParent(eccTemplate(TPM_ECC_CURVE.NIST_P256))));
  const data = Buffer.from('what is sealed');
  const create = {
    parentHandle: parent.objectHandle,
    inSensitive: { userAuth: none, data },
    inPublic: sealTemplate(),
    outsideInfo: none,
    creationPCR: [],
  };
  const sealed = await patient(execute, Commands.Create, create);
  const load = { parentHandle: parent.objectHandle, inPrivate: Buffer.from(sealed.outPrivate), inPublic: sealed.outPublic };
  const { objectHandle: itemHandle } = await patient(execute, Commands.Load, load);
  assert.deepEqual((await patient(execute, Commands.Unseal, { itemHandle })).outData, data);
  const publicInfo = {
    nvIndex,
    nameAlg: TPM_ALG.SHA256,
    attributes: TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE,
    authPolicy: none,
    dataSize: 4,
  } as const;
  await patient(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
  await patient(execute, Commands.NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data: Buffer.from('1234'), offset: 0 });
  for (const flushHandle of [itemHandle, parent.objectHandle, key.objectHandle])
    await patient(execute, Commands.FlushContext, { flushHandle });
  assert.ok(await sign(execute, persistentHandle, key.outPublic));
  const read = await patient(execute, Commands.NV_Read, { authHandle: TPM_RH.OWNER, nvIndex, size: 4, offset: 0 });
  assert.equal(read.data.toString(), '1234');
}

describe('the connection to the chip', function () {
  this.timeout(240_000);
  let countdown = -1;
  /** What the countdown begins with after a drop. */
  const next: number[] = [];
  let bench: Bench;
  let hardware: Hardware;
  before(async () => {
    bench = await Bench.start({
      drop: () => {
        if (countdown-- !== 0) return false;
        countdown = next.shift() ?? -1;
        return true;
      },
    });
    hardware = await bench.open();
  });
  after(() => bench.stop());

  it('drops at any command of a workload: nothing is lost or wrong', async () => {
    for (let at = 0; ; at++) {
      const guest = await openChipGuest(hardware, `guest${at.toString()}`);
      countdown = at;
      await workload(guest.execute);
      if (countdown >= 0) {
        assert.ok(at > 12, at.toString());
        break;
      }
    }
    countdown = -1;
    assert.equal(hardware.condition.state, 'ok');
  });

  it('drops twice, and in the middle of the recovery', async () => {
    for (let gap = 0; gap < 8; gap++) {
      const guest = await openChipGuest(hardware, `twice${gap.toString()}`);
      const key = await patient(guest.execute, Commands.CreatePrimary, primary(signing));
      next.push(gap);
      countdown = 0;
      assert.ok(await sign(guest.execute, key.objectHandle, key.outPublic));
      countdown = -1;
      assert.ok(await sign(guest.execute, key.objectHandle, key.outPublic));
    }
    assert.equal(hardware.condition.state, 'ok');
  });
});

describe('a chip', function () {
  this.timeout(60_000);
  let failing = false;
  let bench: Bench;
  let hardware: Hardware;
  let guest: TestTpm;
  let key: { objectHandle: number; outPublic: TPMT_PUBLIC };
  const states: string[] = [];
  before(async () => {
    bench = await Bench.start({
      onResponse: (response) => {
        if (failing) response.writeUInt32BE(TPM_RC.FAILURE, 6);
      },
    });
    hardware = await bench.open();
    hardware.onCondition = ({ state }) => states.push(state);
    guest = await openChipGuest(hardware, 'web1');
    key = await patient(guest.execute, Commands.CreatePrimary, primary(signing));
  });
  after(() => bench.stop());
  beforeEach(() => {
    states.length = 0;
  });

  const signCode = async (): Promise<number> => {
    const request = { keyHandle: key.objectHandle, digest: Buffer.alloc(32), inScheme: ECDSA_SHA256, validation: noTicket };
    return codeOf(await guest.execute(frame(Commands.Sign, request)));
  };
  const besides = async <T>(use: (other: Chip) => Promise<T>): Promise<T> => {
    const other = await Chip.open(() => Tcti.open(bench.swtpm.tcti), new TestLog(), new Occupant(), { clean: false });
    try {
      return await use(other);
    } finally {
      await other.close();
    }
  };

  it('that is gone: guests go on with what needs no chip, the rest is TPM_RC_RETRY at once, and works when it is back', async () => {
    await bench.swtpm.kill();
    assert.equal(await signCode(), TPM_RC.RETRY);
    await extend(guest.execute);
    assert.equal(hardware.condition.state, 'unreachable');
    assert.ok(hardware.condition.reason?.includes('cannot connect'));
    const others = await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        const { chip } = { chip: hardware.createGuestKeys(i.toString()) };
        return await chip.then(
          () => 'made',
          (error: unknown) => (error as Error).name,
        );
      }),
    );
    assert.deepEqual(new Set(others), new Set(['ChipUnavailable']));
    await bench.swtpm.restart();
    assert.ok(await sign(guest.execute, key.objectHandle, key.outPublic));
    assert.deepEqual(states, ['unreachable', 'ok']);
  });

  it('that is gone is found out without a guest that asks, and so is its return', async () => {
    await bench.swtpm.kill();
    // It is asked after a silence of a second.
    await waitFor(async () => (await hardware.check()).state === 'unreachable');
    await bench.swtpm.restart();
    await waitFor(() => hardware.condition.state === 'ok');
    assert.equal(await signCode(), TPM_RC.SUCCESS);
  });

  it('that has failed: TPM_RC_FAILURE until it works again', async () => {
    failing = true;
    assert.equal(await signCode(), TPM_RC.FAILURE);
    assert.equal(hardware.condition.state, 'failing');
    assert.equal(await signCode(), TPM_RC.FAILURE);
    await extend(guest.execute);
    failing = false;
    await waitFor(async () => (await signCode()) === TPM_RC.SUCCESS);
    assert.deepEqual(states, ['failing', 'ok']);
  });

  it('that another one stands in for: nothing is made in it, and all is well when the right one is back', async () => {
    const memory = path.join(bench.swtpm.directory, 'tpm2-00.permall');
    await bench.swtpm.kill();
    await rename(memory, `${memory}.saved`);
    await bench.swtpm.restart();
    assert.equal(await signCode(), TPM_RC.FAILURE);
    assert.equal(hardware.condition.state, 'cleared');
    assert.match(hardware.condition.reason ?? '', /cleared or replaced.*lost unless/);
    await extend(guest.execute);
    assert.equal(await besides(async (other) => (await listHandles(other, DEFAULT_HOST_ROOT_HANDLE)).length), 0);
    await bench.swtpm.kill();
    await rename(`${memory}.saved`, memory);
    await bench.swtpm.restart();
    await waitFor(async () => (await signCode()) === TPM_RC.SUCCESS);
    assert.equal((await hardware.check()).state, 'ok');
  });

  it('that somebody cleared: TPM_RC_FAILURE, nothing is made anew, other guests cannot be made', async () => {
    await besides((other) => other.execute(Commands.Clear, { authHandle: TPM_RH.LOCKOUT }));
    assert.equal(await signCode(), TPM_RC.FAILURE);
    assert.equal(hardware.condition.state, 'cleared');
    await extend(guest.execute);
    await assert.rejects(hardware.createGuestKeys('other'), /cleared or replaced/);
    // The chip goes on being asked whether it is the right one.
    bench.relay.clear();
    await waitFor(() => bench.relay.count > 0);
    assert.equal(await besides(async (other) => (await listHandles(other, DEFAULT_HOST_ROOT_HANDLE)).length), 0);
    assert.equal(hardware.condition.state, 'cleared');
    await assert.rejects(bench.open({ hostRecords: hardware.hostRecords }), /cleared, or it is another TPM/);
  });
});

describe('a chip that hangs', function () {
  this.timeout(60_000);
  it('is given up after the timeouts for a quick command; guests are then told to retry at once', async () => {
    let hang = false;
    const bench = await Bench.start({ delay: (command) => (hang && commandCode(command) !== TPM_CC.Startup ? Infinity : 0) });
    try {
      const hardware = await bench.open({ timeouts: { quickAnswer: 2_000 } });
      const guest = await openChipGuest(hardware, 'web1');
      const key = await patient(guest.execute, Commands.CreatePrimary, primary(signing));
      hang = true;
      const request = { keyHandle: key.objectHandle, digest: Buffer.alloc(32), inScheme: ECDSA_SHA256, validation: noTicket };
      const ask = async (): Promise<number> => codeOf(await guest.execute(frame(Commands.Sign, request)));
      assert.equal(await ask(), TPM_RC.RETRY);
      bench.relay.clear();
      // A probe takes as long as the timeout: who waited for each would be answered a few times only.
      let answers = 0;
      await waitFor(async () => {
        answers += 1;
        assert.equal(await ask(), TPM_RC.RETRY);
        return bench.relay.codes.filter((code) => code === TPM_CC.Startup).length >= 3;
      });
      assert.ok(answers > 10, `${answers.toString()} answers`);
      hang = false;
      // swtpm serves one connection at a time: those that wait for an answer are in the way.
      bench.relay.dropConnections();
      await waitFor(async () => (await ask()) === TPM_RC.SUCCESS);
    } finally {
      await bench.stop();
    }
  });
});
