// A bounded run of the differential test: `npm run fuzz:differential` has the long one.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { runSequence, showFailure, Statistics } from './runner.js';
import { shrink } from './shrink.js';

const RUN_MS = 12_000;
const SHRINK_MS = 40_000;
const COMMANDS = 300;

describe('any sequence of commands', () => {
  it('is answered as swtpm answers it', async () => {
    const firstSeed = Number(process.env['TPMUX_TEST_SEED'] ?? randomInt(1_000_000_000));
    const statistics = new Statistics();
    const end = Date.now() + RUN_MS;
    for (let seed = firstSeed; seed === firstSeed || Date.now() < end; seed++) {
      const failure = await runSequence({ seed, commands: COMMANDS, statistics });
      if (failure !== undefined) assert.fail(showFailure(await shrink(failure, Date.now() + SHRINK_MS), COMMANDS));
    }
    console.log(`      ${statistics.commands.toString()} commands, seed ${firstSeed.toString()}`);
  });
});
