// Runs a command line of commander and turns what ends it into one line and an exit code.
import { CommanderError, type Command } from 'commander';
import { EXIT, Failure, failureLine, reasonOf } from '../failure.js';

/** Runs one command line and gives its exit code. Errors go to standard error, on one line. */
export async function runCommandLine(program: Command, argv: readonly string[]): Promise<number> {
  try {
    await program.parseAsync([...argv]);
    return Number(process.exitCode ?? EXIT.done);
  } catch (error) {
    if (error instanceof CommanderError) return usageError(program.name(), error);
    const failure = error instanceof Failure ? error : unexpected(program.name(), error);
    process.stderr.write(`${program.name()}: ${failureLine(failure)}\n`);
    if (argv.includes('--debug') && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
    return failure.exit;
  }
}

/** Help that was asked for is no error; help because nothing was asked for is. */
function usageError(name: string, error: CommanderError): number {
  if (error.exitCode === 0) return EXIT.done;
  if (error.code !== 'commander.help') {
    const why = error.message.replace(/^error: /, '');
    process.stderr.write(`${name}: ${failureLine({ what: 'command line', why, hint: `see ${name} --help` })}\n`);
  }
  return EXIT.usage;
}

function unexpected(what: string, error: unknown): Failure {
  return new Failure({ code: 'failed', what, why: reasonOf(error), hint: 'run it with --debug to see where', exit: EXIT.failed });
}
