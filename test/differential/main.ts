// npm run fuzz:differential -- --minutes N [--seed S] [--commands N] [--length N] [--keep-going]
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { explanations } from './explained.js';
import { runSequence, showFailure, signatureOf, Statistics } from './runner.js';
import { shrink } from './shrink.js';

const SHRINK_MS = 60_000;
const usage = `Compares a vTPM with a swtpm, command by command.
  --minutes N    how long at most (5)
  --commands N   how many commands at most (no limit)
  --seed N       the first sequence's seed (random); each further sequence has the next
  --length N     commands of a sequence, each on fresh TPMs (400)
  --keep-going   goes on after a difference and shows one of each kind, not shrunk`;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    commands: { type: 'string', default: 'Infinity' },
    seed: { type: 'string', default: randomInt(1_000_000_000).toString() },
    length: { type: 'string', default: '400' },
    'keep-going': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function main(): Promise<void> {
  if (values.help) {
    print(usage);
    return;
  }
  const [minutes, commands, firstSeed, length] = [values.minutes, values.commands, values.seed, values.length].map(Number) as [
    number,
    number,
    number,
    number,
  ];
  const statistics = new Statistics();
  const started = Date.now();
  const kinds = new Map<string, number>();
  print(`seed ${firstSeed.toString()}, ${length.toString()} commands a sequence`);
  for (let seed = firstSeed; Date.now() < started + minutes * 60_000 && statistics.commands < commands; seed++) {
    const failure = await runSequence({ seed, commands: length, statistics });
    if (failure === undefined) continue;
    process.exitCode = 1;
    const kind = signatureOf(failure);
    const count = (kinds.get(kind) ?? 0) + 1;
    kinds.set(kind, count);
    if (!values['keep-going']) {
      print(showFailure(await shrink(failure, Date.now() + SHRINK_MS), length));
      break;
    }
    if (count === 1) print(showFailure({ ...failure, steps: failure.steps.slice(-1) }, length));
  }
  report(statistics, (Date.now() - started) / 1000, kinds);
}

function report(statistics: Statistics, seconds: number, kinds: ReadonlyMap<string, number>): void {
  const { commands, byCommand, explained } = statistics;
  print(`${commands.toString()} commands in ${seconds.toFixed(0)} s, ${(commands / seconds).toFixed(0)}/s`);
  const rows = [...byCommand].sort(([a], [b]) => a.localeCompare(b));
  print(rows.map(([name, { sent, done }]) => `${name} ${sent.toString()}/${done.toString()}`).join(', '));
  for (const { name, reason } of explanations) print(`explained, ${(explained.get(name) ?? 0).toString()} times: ${name}: ${reason}`);
  for (const [kind, count] of [...kinds].sort((a, b) => b[1] - a[1])) print(`UNEXPLAINED ${count.toString()} times: ${kind}`);
}

await main();
