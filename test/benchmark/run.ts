// `npm run bench`: what guest operations take on a tpmux guest, beside a plain swtpm in the same run, and what they cost the chip.
// The chip of the guest is a swtpm too, so the difference of both columns is what sharing adds; with a hardware chip its own time counts.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import * as Commands from '../../src/tpm/commands/index.js';
import { HANDLE_RANGE, TPM_CAP, TPM_SU } from '../../src/tpm/constants/index.js';
import { startTpmux, tpmux, serving } from '../cli/command-line.js';
import { Exchange, responseSize } from '../support/exchange.js';
import { codeOf, type Execute, frame, run } from '../support/frames.js';
import { startSwtpm } from '../support/swtpm.js';
import { operations } from './operations.js';

const { values } = parseArgs({
  options: {
    tcti: { type: 'string' },
    json: { type: 'boolean' },
    only: { type: 'string', default: '.' },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help === true) {
  console.log(
    'usage: npm run bench -- [--tcti CONF] [--only REGEX] [--json]\n\n--tcti CONF   the chip of the guest, e.g. device:/dev/tpm0 (default: a swtpm of its own)',
  );
  process.exit(0);
}

interface Row {
  readonly operation: string;
  readonly tpmuxMs: number;
  readonly swtpmMs: number;
  /** Hardware commands per guest command. */
  readonly hardware: number;
}

const RETRY = 0x922;
const exchangeOf = (endpoint: ConstructorParameters<typeof Exchange>[0]): { execute: Execute; close: () => void } => {
  const exchange = new Exchange(endpoint);
  const send = (bytes: Buffer): Promise<Buffer> => exchange.send(bytes, responseSize);
  const execute: Execute = async (bytes) => {
    const answer = await send(bytes);
    return codeOf(answer) === RETRY ? send(bytes) : answer;
  };
  return {
    execute,
    close: () => {
      exchange.close();
    },
  };
};

/** Median of the repetitions, in milliseconds. */
async function time(execute: Execute, { prepare, times }: (typeof operations)[number]): Promise<number> {
  const operation = await prepare(execute);
  for (let i = 0; i < Math.min(20, times / 4); i++) await operation(i);
  const taken: number[] = [];
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    await operation(i);
    taken.push(performance.now() - start);
  }
  await flushAll(execute);
  return taken.sort((a, b) => a - b)[Math.floor(times / 2)] ?? 0;
}

async function flushAll(execute: Execute): Promise<void> {
  const { capabilityData } = await run(execute, Commands.GetCapability, {
    capability: TPM_CAP.HANDLES,
    property: HANDLE_RANGE.TRANSIENT.first,
    propertyCount: 100,
  });
  if (capabilityData.capability !== TPM_CAP.HANDLES) return;
  for (const flushHandle of capabilityData.data) await run(execute, Commands.FlushContext, { flushHandle });
}

const directory = await mkdtemp(path.join(tmpdir(), 'tpmux-bench-'));
const runDir = path.join(directory, 'run');
const chip = values.tcti === undefined ? await startSwtpm() : undefined;
const peer = await startSwtpm();
const daemon = startTpmux([
  'serve',
  '--tcti',
  values.tcti ?? chip?.tcti ?? '',
  '--state-dir',
  path.join(directory, 'state'),
  '--run-dir',
  runDir,
]);

/** Calls and hardware commands of one guest command so far. */
async function counted(command: string): Promise<{ calls: number; hardware: number }> {
  const { out } = await tpmux(['counters', 'bench', '--json', '--run-dir', runDir]);
  const { commands } = JSON.parse(out) as { commands: { command: string; calls: number; hardwareCommands: number }[] };
  const found = commands.find((one) => one.command === command);
  return { calls: found?.calls ?? 0, hardware: found?.hardwareCommands ?? 0 };
}

try {
  await serving(daemon);
  const created = await tpmux(['guest', 'create', 'bench', '--run-dir', runDir]);
  if (created.code !== 0) throw new Error(created.err);
  const guest = exchangeOf({ path: path.join(runDir, 'guests', 'bench', 'tpm.sock') });
  const plain = exchangeOf(peer.data);
  await guest.execute(frame(Commands.Startup, { startupType: TPM_SU.CLEAR }));
  const rows: Row[] = [];
  for (const operation of operations.filter(({ name }) => new RegExp(values.only, 'i').test(name))) {
    const before = await counted(operation.command);
    const tpmuxMs = await time(guest.execute, operation);
    const after = await counted(operation.command);
    const swtpmMs = await time(plain.execute, operation);
    rows.push({ operation: operation.name, tpmuxMs, swtpmMs, hardware: (after.hardware - before.hardware) / (after.calls - before.calls) });
    if (values.json !== true) console.error(`measured: ${operation.name}`);
  }
  if (values.json === true) console.log(JSON.stringify(rows, null, 2));
  else {
    console.log(`${'operation'.padEnd(70)}${'tpmux'.padStart(10)}${'swtpm'.padStart(10)}${'chip commands'.padStart(15)}`);
    for (const { operation, tpmuxMs, swtpmMs, hardware } of rows) {
      console.log(
        `${operation.padEnd(70)}${tpmuxMs.toFixed(2).padStart(7)} ms${swtpmMs.toFixed(2).padStart(7)} ms${hardware.toFixed(2).padStart(15)}`,
      );
    }
    console.log('\nMedians. Chip commands: per guest command, as counted where they leave for the chip.');
  }
  guest.close();
  plain.close();
} finally {
  daemon.child.kill('SIGTERM');
  await daemon.result;
  await chip?.stop();
  await peer.stop();
  await rm(directory, { recursive: true });
}
