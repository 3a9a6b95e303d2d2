// npm run fuzz:differential -- --minutes N [--seed S] [--commands N] [--length N] [--keep-going] [--docs]
import { randomInt } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { type Count, Coverage } from './coverage.js';
import { avoided, explanations } from './explained.js';
import { withExplained } from './explained-page.js';
import { runSequence, showFailure, signatureOf } from './runner.js';
import { shrink } from './shrink.js';

const SHRINK_MS = 60_000;
const usage = `Compares a vTPM with a swtpm, command by command.
  --minutes N    how long at most (5)
  --commands N   how many commands at most (no limit)
  --seed N       the first sequence's seed (random); each further sequence has the next
  --length N     commands of a sequence, each on fresh TPMs (400)
  --keep-going   goes on after a difference and shows one of each kind, not shrunk
  --docs         only writes the explained differences into docs/conformance.md`;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    commands: { type: 'string', default: 'Infinity' },
    seed: { type: 'string', default: randomInt(1_000_000_000).toString() },
    length: { type: 'string', default: '400' },
    'keep-going': { type: 'boolean', default: false },
    docs: { type: 'boolean', default: false },
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
  if (values.docs) {
    await writeDocs();
    return;
  }
  const [minutes, commands, firstSeed, length] = [values.minutes, values.commands, values.seed, values.length].map(Number) as [
    number,
    number,
    number,
    number,
  ];
  const coverage = new Coverage();
  const started = Date.now();
  const kinds = new Map<string, number>();
  print(`seed ${firstSeed.toString()}, ${length.toString()} commands a sequence`);
  for (let seed = firstSeed; Date.now() < started + minutes * 60_000 && coverage.commands < commands; seed++) {
    const failure = await runSequence({ seed, commands: length, coverage });
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
  report(coverage, (Date.now() - started) / 1000, kinds);
}

async function writeDocs(): Promise<void> {
  const file = new URL('../../docs/conformance.md', import.meta.url);
  const page = withExplained(await readFile(file, 'utf8'));
  if (page === undefined) throw new Error('docs/conformance.md has no place for the explained differences');
  await writeFile(file, page);
}

function report(coverage: Coverage, seconds: number, kinds: ReadonlyMap<string, number>): void {
  const { commands } = coverage;
  print(`${commands.toString()} commands in ${seconds.toFixed(0)} s, ${(commands / seconds).toFixed(0)}/s`);
  print(`done / sent: ${listOf(coverage.commandRows)}`);
  print(`sessions: ${listOf(coverage.sessionRows)}`);
  if (coverage.crashes > 0) print(`swtpm crashed ${coverage.crashes.toString()} times`);
  if (coverage.missing.length > 0) print(`never done: ${coverage.missing.join('; ')}`);
  for (const { name, reason } of explanations) print(`explained, ${coverage.explained(name).toString()} times: ${name}: ${reason}`);
  for (const { name, reason } of avoided) print(`avoided: ${name}: ${reason}`);
  if (kinds.size === 0) print('no unexplained difference');
  for (const [kind, count] of [...kinds].sort((a, b) => b[1] - a[1])) print(`UNEXPLAINED ${count.toString()} times: ${kind}`);
}

function listOf(rows: readonly [name: string, count: Count][]): string {
  return rows.map(([name, { sent, done }]) => `${name} ${done.toString()}/${sent.toString()}`).join('; ');
}

await main();
