// What a guest gives up does not keep the chip from others.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Account } from '../../../src/hardware/chip/usage.js';
import type { Hardware } from '../../../src/hardware/hardware.js';
import type { Turn } from '../../../src/hardware/turns/turn.js';
import { CreatePrimary, GetRandom, Sign } from '../../../src/tpm/commands/index.js';
import { TPM_CC, TPM_ECC_CURVE, TPM_RH, TPM_ST, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../../src/tpm/response-code.js';
import { openChipGuest } from '../../support/chip-guest.js';
import { codeOf, frame, none, run } from '../../support/frames.js';
import { commandCode } from '../../support/relay.js';
import * as templates from '../../support/templates.js';
import { waitFor } from '../../support/wait-for.js';
import { Bench, ECDSA_SHA256, eccTemplate, makeKey, newGuest, rsaTemplate, signs } from '../fixture.js';
import { guestKeyPublic } from '../../../src/hardware/host/templates.js';

const TRIES = 300;
const isCanceled = (error: unknown): boolean => error instanceof TpmError && error.code === TPM_RC.CANCELED;
const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
const creation = { primaryHandle: TPM_RH.OWNER, inSensitive: { userAuth: none, data: none }, creationPCR: [] };

describe('commands that were given up', function () {
  this.timeout(120_000);
  let bench: Bench;
  let hardware: Hardware;
  /** Holds the answers to key creations back. */
  let slow = false;

  before(async () => {
    bench = await Bench.start({ delay: (command) => (slow && commandCode(command) === TPM_CC.Create ? 500 : 0) });
    hardware = await bench.open();
  });
  after(() => bench.stop());
  afterEach(() => {
    slow = false;
  });

  const count = (code: number): number => bench.relay.codes.filter((one) => one === code).length;

  it(`${TRIES.toString()} key creations of one guest let another one sign after the one that the chip is at`, async () => {
    const greedy = await openChipGuest(hardware, 'greedy');
    const modest = await openChipGuest(hardware, 'modest');
    const inPublic = { ...templates.eccTemplate(TPM_ECC_CURVE.NIST_P256), objectAttributes: templates.GENERAL & ~TPMA_OBJECT.decrypt };
    const key = await run(modest.execute, CreatePrimary, { ...creation, inPublic, outsideInfo: none });
    const sign = frame(Sign, {
      keyHandle: key.objectHandle,
      digest: createHash('sha256').update('message').digest(),
      inScheme: ECDSA_SHA256,
      validation: noTicket,
    });
    assert.equal(codeOf(await modest.execute(sign)), TPM_RC.SUCCESS);

    slow = true;
    bench.relay.clear();
    for (let i = 0; i < TRIES; i++) {
      const unique = randomBytes(256);
      const answer = greedy.execute(
        frame(CreatePrimary, { ...creation, inPublic: { ...templates.rsaTemplate(), unique }, outsideInfo: none }),
      );
      // It waits for the chip now; the first one is at the chip.
      await waitFor(() => hardware.usage().pending > 0);
      greedy.tpm.cancel();
      assert.equal(codeOf(await answer), TPM_RC.CANCELED);
    }
    // A command counts when the chip has answered it.
    const creates = count(TPM_CC.Create);
    assert.equal(codeOf(await modest.execute(sign)), TPM_RC.SUCCESS);
    assert.equal(count(TPM_CC.Sign), 1);
    assert.ok(count(TPM_CC.Create) - creates <= 1, 'the one that the chip was at, if any');
    await waitFor(() => hardware.usage().pending === 0);
    assert.ok(count(TPM_CC.Create) - creates <= 1, 'none began later');
    assert.ok(count(TPM_CC.Create) < TRIES / 10, `${count(TPM_CC.Create).toString()} creations reached the chip`);
    for (const guest of [greedy, modest]) await guest.tpm.powerOff();
  });

  it('release who waits at once, send nothing more for it, and leave the slots right', async () => {
    const { chip, account } = await newGuest(hardware, 'hasty');
    const key = await makeKey(chip);
    slow = true;
    const given = new AbortController();
    account.signal = given.signal;
    bench.relay.clear();
    const made = chip.create(guestKeyPublic(chip.rootPublic, rsaTemplate(TPMA_OBJECT.sign)), none);
    const waiting = chip.create(guestKeyPublic(chip.rootPublic, eccTemplate()), none);
    await waitFor(() => count(TPM_CC.Create) === 1);
    given.abort();
    await assert.rejects(made, isCanceled);
    await assert.rejects(waiting, isCanceled);
    assert.equal(hardware.usage().pending, 1, 'the chip is still at the first');
    await assert.rejects(chip.create(guestKeyPublic(chip.rootPublic, eccTemplate()), none), isCanceled);
    account.signal = undefined;
    assert.ok(await signs(chip, key));
    assert.equal(count(TPM_CC.Create), 1);
    await chip.close();
  });

  it('stop between two chip commands of one job, but for what cleans up', async () => {
    const given = new AbortController();
    const sent: string[] = [];
    const account = new Account('stepwise');
    // What a job of several commands does.
    const job = async (turn: Turn): Promise<void> => {
      for (let i = 0; i < 3; i++) {
        await turn.execute(GetRandom, { bytesRequested: 8 });
        sent.push('GetRandom');
        given.abort();
      }
    };
    const turns = (hardware as unknown as { turns: { run: (request: object, job: (turn: Turn) => Promise<void>) => Promise<void> } }).turns;
    await assert.rejects(turns.run({ guest: account, kind: 'use', signal: given.signal }, job), isCanceled);
    await waitFor(() => hardware.usage().pending === 0);
    assert.deepEqual(sent, ['GetRandom']);
  });

  it('a turn is of no use after its job', async () => {
    let kept: Turn | undefined;
    await hardware.run(async (turn) => {
      kept = turn;
      await turn.execute(GetRandom, { bytesRequested: 8 });
    });
    bench.relay.clear();
    await assert.rejects(async () => kept?.execute(GetRandom, { bytesRequested: 8 }), /used after it had ended/);
    await assert.rejects(async () => kept?.flush(0x80000000), /used after it had ended/);
    assert.deepEqual(bench.relay.codes, []);
  });
});
