// A bounded run of the differential test: `npm run fuzz:differential` has the long one.
import assert from 'node:assert/strict';
import { runSeed } from '../support/random-walk.js';
import { Coverage } from './coverage.js';
import { runSequence, showFailure } from './runner.js';
import { shrink } from './shrink.js';

/** Many short sequences: what goes wrong at the end of a long one is hard to read. */
const SEQUENCES = 60;
const COMMANDS = 300;
/** Only a difference takes so long: its sequence is made shorter first. */
const SHRINK_MS = 60_000;
const TIMEOUT_MS = 180_000;

/**
 * Seeds that have shown something, with what it was. Another generator makes other sequences of them; what each has shown has a test in
 * findings.test.ts too.
 */
const REGRESSIONS: readonly [seed: number, what: string][] = [
  [109_601_281, 'a CMAC by two-key TDES of no data, for which libtpms makes the subkeys with the constant of larger blocks'],
  [245_672_051, 'a partial certificate with an extension that is cut off, which libtpms certifies'],
];

async function isSame(seed: number, coverage: Coverage): Promise<void> {
  const failure = await runSequence({ seed, commands: COMMANDS, coverage });
  if (failure !== undefined) assert.fail(showFailure(await shrink(failure, Date.now() + SHRINK_MS), COMMANDS));
}

describe('any sequence of commands', () => {
  it('is answered as swtpm answers it', async function () {
    this.timeout(TIMEOUT_MS);
    console.log(`      seed ${runSeed.toString()}`);
    const coverage = new Coverage();
    for (let i = 0; i < SEQUENCES; i++) await isSame(runSeed + i, coverage);
    console.log(`      ${coverage.commands.toString()} commands`);
  });

  for (const [seed, what] of REGRESSIONS) {
    it(`is answered so that began with ${seed.toString()}: ${what}`, async function () {
      this.timeout(TIMEOUT_MS);
      await isSame(seed, new Coverage());
    });
  }
});
