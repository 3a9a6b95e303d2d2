// The crash test in short; `npm run test:crash -- --rounds N` is the long one.
import assert from 'node:assert/strict';
import { runCrashTest } from '../crash/crash-test.js';

const KILLS = 100;
const GUESTS = 4;

describe('kill -9 of the daemon', () => {
  it(`loses nothing of what ${GUESTS.toString()} guests had acknowledged, killed ${KILLS.toString()} times`, async function () {
    this.timeout(900_000);
    const acknowledged = await runCrashTest({ rounds: KILLS, guests: GUESTS, longest: 300 });
    assert.ok(acknowledged > KILLS, 'the guests were at work');
    console.log(`      ${acknowledged.toString()} acknowledged commands, ${KILLS.toString()} kills, nothing lost`);
  });
});
