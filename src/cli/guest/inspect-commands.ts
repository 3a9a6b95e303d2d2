// tpmux status, pcr, counters
import { InvalidArgumentError, type Command } from 'commander';
import { checkName } from '../../guests/name.js';
import { EXIT, Failure } from '../../failure.js';
import { clientContext, clientOptions, type ClientOptions } from '../client-command.js';
import { table } from '../output.js';

/** Adds `status`, `pcr read` and `counters`. */
export function addInspectCommands(program: Command): void {
  addStatus(program);
  addPcr(program);
  addCounters(program);
}

function addStatus(program: Command): void {
  clientOptions(program.command('status').description('show the daemon, its TPM and how many guests it has'))
    .addHelpText('after', '\nExample:\n  tpmux status --json\n')
    .action(async (options: ClientOptions) => {
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('status', {});
      if (json) {
        out.json(answer);
        return;
      }
      const { pid, started, stateDir, runDir, tpm, store, rollback, properties, guests } = answer;
      out.line(`daemon   process ${pid.toString()}, started ${started}`);
      out.line(`state    ${stateDir}${store.reason === null ? '' : ` (CANNOT BE WRITTEN: ${store.reason})`}`);
      out.line(`run      ${runDir}`);
      out.line(`TPM      ${tpm.tcti}${tpm.embedded ? ' (embedded: NOT a hardware TPM)' : ''}`);
      out.line(`         ${tpm.manufacturer} ${tpm.vendor}, firmware ${tpm.firmware}, revision ${tpm.specification}`);
      out.line(`         ${tpm.state} since ${tpm.since}${tpm.reason === null ? '' : `: ${tpm.reason}`}`);
      out.line(
        `rollback ${rollback === null ? 'NOT detected' : `detected by counter 0x${rollback.index.toString(16)}, then: ${rollback.whenDetected}`}`,
      );
      out.line(`property ${properties.statements.toString()} statements`);
      for (const { guest, provider, failures } of properties.failures) {
        out.line(`         provider ${provider} FAILED ${failures.toString()} times for guest ${guest}`);
      }
      out.line(`guests   ${guests.total.toString()}, ${guests.running.toString()} running, ${guests.failed.toString()} failed`);
    });
}

interface PcrOptions extends ClientOptions {
  readonly bank?: string;
}

function addPcr(program: Command): void {
  const pcr = program.command('pcr').description("look at a guest's PCRs");
  clientOptions(pcr.command('read').description("print a guest's PCRs as it sees them"))
    .argument('<name>', 'the guest')
    .argument('[index...]', 'which PCRs (default: all)', pcrIndex)
    .option('--bank <bank>', 'only this bank, e.g. sha256')
    .addHelpText('after', '\nExamples:\n  tpmux pcr read web1 --bank sha256\n  tpmux pcr read web1 7 11\n')
    .action(async (name: string, indices: number[] | undefined, { bank, ...options }: PcrOptions) => {
      checkName(name);
      const { api, out, json } = await clientContext(options);
      const { guest, banks } = await api.ask('readPcrs', { params: { name }, query: { bank } });
      const chosen = Object.entries(banks).map(([bankName, values]) => [bankName, choose(values, indices ?? [])] as const);
      if (json) {
        out.json({ guest, banks: Object.fromEntries(chosen.map(([bankName, values]) => [bankName, Object.fromEntries(values)])) });
        return;
      }
      for (const [bankName, values] of chosen) {
        out.line(`${bankName}:`);
        for (const [index, value] of values) out.line(`  ${index.toString().padStart(2)}: 0x${value.toUpperCase()}`);
      }
    });
  addPcrLog(pcr);
}

function addPcrLog(pcr: Command): void {
  clientOptions(pcr.command('log <name>').description("print what happened to a guest's PCRs since it was started"))
    .option('--bank <bank>', 'show the digests of this bank', 'sha256')
    .addHelpText('after', '\nExamples:\n  tpmux pcr log web1\n  tpmux pcr log web1 --json\n')
    .action(async (name: string, { bank, ...options }: ClientOptions & { bank: string }) => {
      checkName(name);
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('readPcrLog', { params: { name } });
      if (json) {
        out.json(answer);
        return;
      }
      const rows = answer.entries.map(({ number, time, command, locality, pcr: index, digests }) => [
        number,
        time,
        locality,
        index === null ? 'all' : index,
        command,
        digests[bank] ?? '-',
      ]);
      for (const line of table(['NO', 'TIME', 'LOCALITY', 'PCR', 'COMMAND', bank.toUpperCase()], rows)) out.line(line);
    });
}

function pcrIndex(value: string, earlier: number[] | undefined): number[] {
  const index = Number(value);
  if (!/^\d{1,2}$/.test(value) || index > 31) throw new InvalidArgumentError('A PCR index is 0 to 23.');
  return [...(earlier ?? []), index];
}

function choose(values: readonly string[], indices: readonly number[]): (readonly [number, string])[] {
  const wanted = indices.length === 0 ? [...values.keys()] : indices;
  return wanted.map((index) => {
    const value = values[index];
    if (value === undefined) {
      const last = (values.length - 1).toString();
      throw new Failure({
        code: 'no_pcr',
        what: `PCR ${index.toString()}`,
        why: 'there is no such PCR',
        hint: `they go from 0 to ${last}`,
        exit: EXIT.usage,
      });
    }
    return [index, value] as const;
  });
}

function addCounters(program: Command): void {
  clientOptions(program.command('counters <name>').description("show what a guest's commands cost in the hardware TPM"))
    .addHelpText('after', '\nExample:\n  tpmux counters web1\n')
    .action(async (name: string, options: ClientOptions) => {
      checkName(name);
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('readCounters', { params: { name } });
      if (json) {
        out.json(answer);
        return;
      }
      const rows = answer.commands.map(({ command, calls, hardwareCommands, chipMilliseconds }) => [
        command,
        calls,
        hardwareCommands,
        calls === 0 ? '-' : (hardwareCommands / calls).toFixed(2),
        chipMilliseconds.toFixed(1),
      ]);
      for (const line of table(['COMMAND', 'CALLS', 'HARDWARE', 'PER CALL', 'CHIP MS'], rows)) out.line(line);
    });
}
