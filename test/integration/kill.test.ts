// The crash test in short; `npm run test:crash -- --rounds N` is the long one.
import { runCrashTest } from '../crash/crash-test.js';

const KILLS = 6;
const GUESTS = 4;

describe('kill -9 of the daemon', () => {
  it(`loses nothing of what ${GUESTS.toString()} guests had acknowledged, killed ${KILLS.toString()} times`, async function () {
    this.timeout(180_000);
    const acknowledged = await runCrashTest({ rounds: KILLS, guests: GUESTS, longest: 800 });
    console.log(`      ${acknowledged.toString()} acknowledged commands, ${KILLS.toString()} kills, nothing lost`);
  });
});
