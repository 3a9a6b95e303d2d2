// What a guest gives up does not keep the chip from others.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Account } from '../../../src/hardware/chip/usage.js';
import { listHandles } from '../../../src/hardware/chip/sender.js';
import type { Hardware } from '../../../src/hardware/hardware.js';
import type { Turn } from '../../../src/hardware/turns/turn.js';
import { CreatePrimary, GetRandom, Sign } from '../../../src/tpm/commands/index.js';
import { HANDLE_RANGE, TPM_CC, TPM_ECC_CURVE, TPM_RH, TPM_ST, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { Cancellation } from '../../../src/tpm/canceled.js';
import { TPM_RC, TpmError } from '../../../src/tpm/response-code.js';
import { openChipGuest } from '../../support/chip-guest.js';
import { codeOf, frame, none, run } from '../../support/frames.js';
import { commandCode } from '../../support/relay.js';
import * as templates from '../../support/templates.js';
import { waitFor } from '../../support/wait-for.js';
import { Bench, ECDSA_SHA256, eccTemplate, makeKey, newGuest, rsaTemplate, signs, turnsOf, type TestKey, inTurn } from '../fixture.js';
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
  /** The command whose answers are held back until they are released. */
  let held: number | undefined;
  /** Whether the chip is too busy to give random numbers. */
  let busy = false;

  before(async () => {
    bench = await Bench.start({
      delay: (command) => {
        if (commandCode(command) === held) return Infinity;
        return slow && commandCode(command) === TPM_CC.Create ? 500 : 0;
      },
      onResponse: (response, command) => {
        if (busy && commandCode(command) === TPM_CC.GetRandom) response.writeUInt32BE(TPM_RC.RETRY, 6);
      },
    });
    hardware = await bench.open();
  });
  after(() => bench.stop());
  afterEach(() => {
    slow = false;
    held = undefined;
    busy = false;
    bench.relay.release();
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
    // The one that the chip is at may not have reached the relay.
    const creates = count(TPM_CC.Create);
    const before = bench.relay.count;
    assert.equal(codeOf(await modest.execute(sign)), TPM_RC.SUCCESS);
    const between = bench.relay.codes.slice(before);
    assert.equal(between.pop(), TPM_CC.Sign);
    assert.ok(between.length <= 1, `at most the one that the chip was at: ${between.join()}`);
    await waitFor(() => hardware.usage().pending === 0);
    assert.ok(count(TPM_CC.Create) - creates <= 1, 'none began later');
    assert.ok(count(TPM_CC.Create) < TRIES / 10, `${count(TPM_CC.Create).toString()} creations reached the chip`);
    for (const guest of [greedy, modest]) await guest.tpm.powerOff();
  });

  it('release who waits at once, send nothing more for it, and leave the slots right', async () => {
    const { chip, account } = await newGuest(hardware, 'hasty');
    const key = await makeKey(chip);
    slow = true;
    const given = new Cancellation();
    account.cancellation = given;
    bench.relay.clear();
    const made = chip.create(guestKeyPublic(chip.rootPublic, rsaTemplate(TPMA_OBJECT.sign)));
    const waiting = chip.create(guestKeyPublic(chip.rootPublic, eccTemplate()));
    await waitFor(() => count(TPM_CC.Create) === 1);
    given.cancel();
    await assert.rejects(made, isCanceled);
    await assert.rejects(waiting, isCanceled);
    assert.equal(hardware.usage().pending, 1, 'the chip is still at the first');
    await assert.rejects(chip.create(guestKeyPublic(chip.rootPublic, eccTemplate())), isCanceled);
    account.cancellation = undefined;
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
    await assert.rejects(turnsOf(hardware).run({ guest: account, kind: 'use', signal: given.signal }, job), isCanceled);
    await waitFor(() => hardware.usage().pending === 0);
    assert.deepEqual(sent, ['GetRandom']);
  });

  /** Gives up what `use` does while the chip is at `command`, and tells which commands the chip gets after that. */
  const givenUpDuring = async (account: Account, command: number, use: () => Promise<unknown>): Promise<string[]> => {
    const given = new Cancellation();
    account.cancellation = given;
    held = command;
    const used = use();
    await waitFor(() => bench.relay.held === 1);
    given.cancel();
    await assert.rejects(used, isCanceled);
    account.cancellation = undefined;
    held = undefined;
    return await bench.commandsOf(async () => {
      bench.relay.release();
      await waitFor(() => hardware.usage().pending === 0);
    });
  };

  it('load the key that is being loaded, and do nothing with it', async () => {
    const { chip, account } = await newGuest(hardware, 'loading');
    const key = await makeKey(chip);
    assert.deepEqual(await givenUpDuring(account, TPM_CC.Load, () => signs(chip, key)), []);
    assert.deepEqual(await bench.commandsOf(() => signs(chip, key)), ['Sign'], 'the key is in its slot');
    await chip.close();
  });

  it('load no key below a parent that is being loaded', async () => {
    const { chip, account } = await newGuest(hardware, 'parent');
    const key = await makeKey(chip);
    const other = await newGuest(hardware, 'other');
    const others = [await makeKey(other.chip), await makeKey(other.chip), await makeKey(other.chip)];
    for (const one of others) assert.ok(await signs(other.chip, one));
    assert.deepEqual(await givenUpDuring(account, TPM_CC.ContextLoad, () => signs(chip, key)), []);
    const commands = await bench.commandsOf(() => signs(chip, key));
    assert.ok(!commands.includes('ContextLoad'), 'the parent is in its slot');
    assert.deepEqual(commands.slice(-2), ['Load', 'Sign']);
    for (const guest of [chip, other.chip]) await guest.close();
  });

  it('take no key out of its slot for one that is not loaded any more', async () => {
    const { chip, account } = await newGuest(hardware, 'evicting');
    const keys: TestKey[] = [];
    for (let i = 0; i < 5; i++) keys.push(await makeKey(chip));
    const last = keys.pop() as TestKey;
    for (const key of keys) assert.ok(await signs(chip, key));
    const { evictions } = hardware.usage().slots;
    assert.deepEqual(await givenUpDuring(account, TPM_CC.ContextSave, () => signs(chip, last)), []);
    assert.equal(hardware.usage().slots.evictions, evictions);
    for (const key of [...keys, last]) assert.ok(await signs(chip, key));
    await chip.close();
  });

  it('leave no session and no object in the chip', async () => {
    const { chip, account } = await newGuest(hardware, 'duplicating');
    const key = await makeKey(chip);
    const loaded = (first: number): Promise<number[]> => inTurn(hardware, (turn) => listHandles(turn, first));
    const left = await givenUpDuring(account, TPM_CC.PolicyCommandCode, () => chip.extract(key.key));
    assert.deepEqual(left, ['FlushContext', 'FlushContext']);
    assert.equal((await loaded(HANDLE_RANGE.HMAC_SESSION.first)).length, 1, 'the long-lived session');
    assert.equal((await loaded(HANDLE_RANGE.TRANSIENT.first)).length, hardware.usage().slots.used);
    assert.equal((await chip.extract(key.key)).length, 32);
    await chip.close();
  });

  it('are not sent again to a chip that was busy', async () => {
    const given = new AbortController();
    busy = true;
    bench.relay.clear();
    const request = { guest: new Account('patient'), kind: 'use', signal: given.signal } as const;
    const asked = turnsOf(hardware).run(request, (turn) => turn.execute(GetRandom, { bytesRequested: 8 }));
    await waitFor(() => count(TPM_CC.GetRandom) > 1);
    const before = count(TPM_CC.GetRandom);
    given.abort();
    await assert.rejects(asked, isCanceled);
    await waitFor(() => hardware.usage().pending === 0);
    assert.ok(count(TPM_CC.GetRandom) - before <= 1);
  });

  it('a turn is of no use after its job', async () => {
    let kept: Turn | undefined;
    await inTurn(hardware, async (turn) => {
      kept = turn;
      await turn.execute(GetRandom, { bytesRequested: 8 });
    });
    bench.relay.clear();
    await assert.rejects(async () => kept?.execute(GetRandom, { bytesRequested: 8 }), /used after it had ended/);
    await assert.rejects(async () => kept?.flush(0x80000000), /used after it had ended/);
    assert.deepEqual(bench.relay.codes, []);
  });
});
