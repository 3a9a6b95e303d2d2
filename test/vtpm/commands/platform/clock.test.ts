// Clocks and timers, side by side with swtpm.
import assert from 'node:assert/strict';
import { ClockRateAdjust, ClockSet, ReadClock } from '../../../../src/tpm/commands/index.js';
import { TPM_CLOCK_ADJUST, TPM_RH } from '../../../../src/tpm/constants/index.js';
import { atParameter, TPM_RC } from '../../../../src/tpm/response-code.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { password, rawFrame, run } from '../../../support/frames.js';
import { openTestTpm } from '../../../support/vtpm.js';

const { OWNER, PLATFORM, LOCKOUT } = TPM_RH;

describe('clocks', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });

  it('ClockSet goes forward only', async () => {
    const began = performance.now();
    await both.runSame(ClockSet, { auth: OWNER, newTime: 10_000_000n });
    assert.equal(await both.code(ClockSet, { auth: OWNER, newTime: 9_999_999n }), atParameter(TPM_RC.VALUE, 1));
    assert.equal(await both.code(ClockSet, { auth: PLATFORM, newTime: 0xffff_0000_0000_0001n }), atParameter(TPM_RC.VALUE, 1));
    await both.code(ClockSet, { auth: LOCKOUT, newTime: 20_000_000n });
    const { ours, theirs } = await both.run(ReadClock, {});
    for (const { currentTime } of [ours, theirs]) {
      const { clock, safe } = currentTime.clockInfo;
      assert.ok(clock >= 10_000_000n && Number(clock - 10_000_000n) <= performance.now() - began + 1);
      assert.equal(safe, 1);
    }
    await both.runSame(ClockSet, { auth: PLATFORM, newTime: 0xffff_0000_0000_0000n });
  });

  it('ClockRateAdjust', async () => {
    for (const rateAdjust of Object.values(TPM_CLOCK_ADJUST)) await both.runSame(ClockRateAdjust, { auth: OWNER, rateAdjust });
    for (const byte of [4, 0xfc, 0x80, 0x7f]) await both.sameCode(rawFrame(ClockRateAdjust.code, [OWNER], Buffer.of(byte), [password()]));
  });

  it('Time goes on without a jump when its rate changes, and at that rate', async () => {
    const { execute } = await openTestTpm();
    /** Time, and when it was asked for and known. */
    const read = async (): Promise<{ asked: number; time: number; known: number }> => {
      const asked = performance.now();
      const { currentTime } = await run(execute, ReadClock, {});
      return { asked, time: Number(currentTime.time), known: performance.now() };
    };
    let last = await read();
    for (let i = 0; i < 40; i++) {
      await run(execute, ClockRateAdjust, { auth: OWNER, rateAdjust: TPM_CLOCK_ADJUST.COARSE_SLOWER });
      const now = await read();
      assert.ok(now.time >= last.time && now.time - last.time <= now.known - last.asked + 1);
      last = now;
    }
    const start = await read();
    // What a clock shows takes time.
    await new Promise((resolve) => setTimeout(resolve, 120));
    const end = await read();
    const passed = end.time - start.time;
    // 6/7 is the slowest rate; Time has whole milliseconds.
    const [least, most] = [((end.asked - start.known) * 6) / 7 - 1, ((end.known - start.asked) * 6) / 7 + 1];
    assert.ok(passed >= least && passed <= most, `${passed.toString()} ms, not ${least.toString()} to ${most.toString()}`);
  });
});
