// A bounded run of the differential test: `npm run fuzz:differential` has the long one.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { Coverage } from './coverage.js';
import { runSequence, showFailure } from './runner.js';
import { shrink } from './shrink.js';

const RUN_MS = 20_000;
const COMMANDS = 300;
/** Only a difference takes so long: its sequence is made shorter first. */
const SHRINK_MS = 60_000;
const TIMEOUT_MS = 180_000;

describe('any sequence of commands', () => {
  it('is answered as swtpm answers it', async function () {
    this.timeout(TIMEOUT_MS);
    const firstSeed = Number(process.env['TPMUX_TEST_SEED'] ?? randomInt(1_000_000_000));
    console.log(`      seed ${firstSeed.toString()}`);
    const coverage = new Coverage();
    const end = Date.now() + RUN_MS;
    for (let seed = firstSeed; seed === firstSeed || Date.now() < end; seed++) {
      const failure = await runSequence({ seed, commands: COMMANDS, coverage });
      if (failure !== undefined) assert.fail(showFailure(await shrink(failure, Date.now() + SHRINK_MS), COMMANDS));
    }
    console.log(`      ${coverage.commands.toString()} commands`);
  });
});
