// What one use of a key costs the chip.
import assert from 'node:assert/strict';
import { Bench, makeKey, newGuest, signs, type TestKey } from '../fixture.js';
import type { GuestChip } from '../../../src/hardware/guest/guest-chip.js';
import type { Hardware } from '../../../src/hardware/hardware.js';

describe('commands that a key costs', () => {
  let bench: Bench;
  let hardware: Hardware;
  let chip: GuestChip;
  const keys: TestKey[] = [];
  const keyAt = (i: number): TestKey => keys[i % keys.length] as TestKey;

  before(async () => {
    bench = await Bench.start();
    hardware = await bench.open();
    ({ chip } = await newGuest(hardware));
    for (let i = 0; i < 8; i++) keys.push(await makeKey(chip));
  });
  after(() => bench.stop());

  it('a hot key: the operation alone', async () => {
    await signs(chip, keyAt(0));
    for (let i = 0; i < 5; i++) assert.deepEqual(await bench.commandsOf(() => signs(chip, keyAt(0))), ['Sign']);
  });

  it('two hot keys in turn: the operation alone', async () => {
    await signs(chip, keyAt(0));
    await signs(chip, keyAt(1));
    for (let i = 0; i < 6; i++) assert.deepEqual(await bench.commandsOf(() => signs(chip, keyAt(i % 2))), ['Sign']);
  });

  it('a key that is used for the first time: Load, and room for it', async () => {
    const fresh = await makeKey(chip);
    const commands = await bench.commandsOf(() => signs(chip, fresh));
    assert.deepEqual(commands.slice(-2), ['Load', 'Sign']);
    assert.ok(commands.length <= 4, commands.join());
  });

  it('a cold key whose context is saved, when the victim is saved too: flush, load, operate', async () => {
    for (let round = 0; round < 2; round++) for (let i = 0; i < 8; i++) await signs(chip, keyAt(i));
    for (let i = 0; i < 8; i++) {
      assert.deepEqual(await bench.commandsOf(() => signs(chip, keyAt(i))), ['FlushContext', 'ContextLoad', 'Sign']);
    }
  });

  it('200 random uses of 8 keys: at most 3 commands each, and every context is saved at most once', async () => {
    for (let round = 0; round < 2; round++) for (let i = 0; i < 8; i++) await signs(chip, keyAt(i));
    let seed = 4711;
    const saves = hardware.usage().slots.contextSaves;
    let total = 0;
    for (let use = 0; use < 200; use++) {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      let verified = false;
      const commands = await bench.commandsOf(async () => {
        verified = await signs(chip, keyAt(seed >> 8));
      });
      assert.ok(verified);
      assert.ok(commands.length <= 3, commands.join());
      total += commands.length;
    }
    assert.equal(hardware.usage().slots.contextSaves, saves);
    assert.ok(saves <= hardware.usage().slots.loads, 'a context is saved only after a load from blobs');
    assert.ok(total < 560, `${total.toString()} commands`);
  });

  it('keys of several guests share the slots', async () => {
    const other = await newGuest(hardware, 'other');
    const theirs = await makeKey(other.chip);
    for (let i = 0; i < 4; i++) {
      assert.ok(await signs(chip, keyAt(0)));
      assert.ok(await signs(other.chip, theirs));
    }
    assert.deepEqual(await bench.commandsOf(() => signs(other.chip, theirs)), ['Sign']);
  });

  it('concurrent uses wait for each other', async () => {
    const results = await Promise.all(Array.from({ length: 24 }, (_, i) => signs(chip, keyAt(i))));
    assert.ok(results.every((verified) => verified));
  });

  it('counts them for the guest and its command', async () => {
    const guest = await newGuest(hardware, 'billed');
    guest.account.begin('Create');
    const key = await makeKey(guest.chip);
    guest.account.begin('Sign');
    await signs(guest.chip, key);
    guest.account.begin('Sign');
    const hot = (await bench.commandsOf(() => signs(guest.chip, key))).length;
    assert.equal(hot, 1);
    const sign = guest.account.counters().find(({ command }) => command === 'Sign');
    assert.equal(sign?.calls, 2);
    assert.ok(sign.hardwareCommands >= 3 && sign.hardwareCommands <= 6, sign.hardwareCommands.toString());
    assert.ok(sign.chipMilliseconds > 0);
    assert.ok(hardware.usage().commands.some(({ command, calls }) => command === 'Sign' && calls > 200));
  });

  it('a guest that is closed leaves nothing in the chip', async () => {
    const guest = await newGuest(hardware, 'leaving');
    await signs(guest.chip, await makeKey(guest.chip));
    const { used } = hardware.usage().slots;
    await guest.chip.close();
    assert.ok(hardware.usage().slots.used < used);
  });
});
