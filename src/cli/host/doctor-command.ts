// tpmux doctor
import type { Command } from 'commander';
import type { Check } from '../../host/chip-checks.js';
import { loadConfig, type Config, type ConfigFlags } from '../../config/config.js';
import { EXIT, Failure } from '../../failure.js';
import { ApiClient } from '../../api/client.js';
import { standardOutput } from '../output.js';

/** Adds `doctor`. */
export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('check whether this host can run tpmux, with or without a running daemon')
    .option('--config <file>', 'configuration file (default: TPMUX_CONFIG, /etc/tpmux/tpmux.yaml)')
    .option('--tcti <conf>', 'TCTI string of the hardware TPM')
    .option('--embedded-tpm', 'check for the software TPM instead')
    .option('--state-dir <dir>', 'durable state')
    .option('--run-dir <dir>', 'sockets')
    .option('--json', 'print one JSON document')
    .option('--debug', 'print a stack trace with an error')
    .addHelpText('after', '\nExits with 1 if a check fails.\n\nExamples:\n  tpmux doctor\n  tpmux doctor --tcti device:/dev/tpm0 --json\n')
    .action(async ({ json, ...flags }: ConfigFlags & { json?: boolean }) => {
      const config = await loadConfig(flags, process.env);
      const checks = await examine(config);
      if (json === true) standardOutput.json({ checks });
      else for (const each of checks) standardOutput.line(describe(each));
      if (checks.some(({ result }) => result === 'fail')) process.exitCode = EXIT.failed;
    });
}

async function examine(config: Config): Promise<Check[]> {
  // A command that starts without them says what is wrong even where they do not load.
  const { checkHost, checkWithoutDaemon } = await import('../../host/doctor.js');
  const host = await checkHost(config);
  try {
    const { checks } = await new ApiClient(config.runDir).ask('doctor', {});
    return [...host, { name: 'daemon', result: 'ok', detail: 'running; its TPM was asked through it', hint: '' }, ...checks];
  } catch (error) {
    if (!(error instanceof Failure) || error.exit !== EXIT.unreachable) throw error;
    return [...host, { name: 'daemon', result: 'ok', detail: 'not running', hint: '' }, ...(await checkWithoutDaemon(config))];
  }
}

function describe({ name, result, detail, hint }: Check): string {
  return `${result.padEnd(4)}  ${name.padEnd(18)}  ${detail}${hint === '' ? '' : ` (${hint})`}`;
}
