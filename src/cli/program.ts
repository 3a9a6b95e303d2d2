// The command line: what there is, and how errors end it.
import { Command, CommanderError } from 'commander';
import { EXIT, Failure, failureLine, reasonOf } from '../failure.js';
import { addAuditCommands } from './audit-commands.js';
import { addDoctorCommand } from './doctor-command.js';
import { addGuestCommands } from './guest-commands.js';
import { addHostCommands } from './host-commands.js';
import { addInspectCommands } from './inspect-commands.js';
import { addPropertyCommands } from './property-commands.js';
import { addServeCommand } from './serve-command.js';

const EXIT_CODES = `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (authorisation or policy),
4 the daemon or the TPM can't be reached, 5 not supported.
`;

/** The whole command line. */
export function createProgram(version: string): Command {
  const program = new Command('tpmux')
    .description('Shares one hardware TPM 2.0 among all virtual machines of a host.')
    .version(version, '--version', 'print the version')
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .showHelpAfterError(false)
    .addHelpText('after', EXIT_CODES);
  addServeCommand(program);
  addGuestCommands(program);
  addHostCommands(program);
  addInspectCommands(program);
  addAuditCommands(program);
  addPropertyCommands(program);
  addDoctorCommand(program);
  return program;
}

/** Runs one command line and gives its exit code. Errors go to standard error, on one line. */
export async function runCommandLine(program: Command, argv: readonly string[]): Promise<number> {
  try {
    await program.parseAsync([...argv]);
    return Number(process.exitCode ?? EXIT.done);
  } catch (error) {
    if (error instanceof CommanderError) return usageError(error);
    const failure = error instanceof Failure ? error : unexpected(error);
    process.stderr.write(`tpmux: ${failureLine(failure)}\n`);
    if (argv.includes('--debug') && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
    return failure.exit;
  }
}

/** Help that was asked for is no error; help because nothing was asked for is. */
function usageError(error: CommanderError): number {
  if (error.exitCode === 0) return EXIT.done;
  if (error.code !== 'commander.help') {
    const why = error.message.replace(/^error: /, '');
    process.stderr.write(`tpmux: ${failureLine({ what: 'command line', why, hint: 'see tpmux --help' })}\n`);
  }
  return EXIT.usage;
}

function unexpected(error: unknown): Failure {
  return new Failure({ code: 'failed', what: 'tpmux', why: reasonOf(error), hint: 'run it with --debug to see where', exit: EXIT.failed });
}
