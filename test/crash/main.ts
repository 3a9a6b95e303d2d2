// npm run test:crash -- --rounds N [--guests N]
import { parseArgs } from 'node:util';
import { runCrashTest } from './crash-test.js';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '100' }, guests: { type: 'string', default: '4' } } });
const rounds = Number(values.rounds);
const started = Date.now();
runCrashTest({ rounds, guests: Number(values.guests), longest: 600, progress: console.log }).then(
  (acknowledged) => {
    const seconds = Math.round((Date.now() - started) / 1000);
    console.log(`${rounds.toString()} kills, ${acknowledged.toString()} acknowledged commands, nothing lost, ${seconds.toString()} s`);
  },
  (error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  },
);
