// The command line: what there is, and how errors end it.
import { Command } from 'commander';
import { addAuditCommands } from './host/audit-commands.js';
import { addDoctorCommand } from './host/doctor-command.js';
import { addEvidenceCommand } from './evidence/evidence-command.js';
import { addGuestCommands } from './guest/guest-commands.js';
import { addHostCommands } from './host/host-commands.js';
import { addInspectCommands } from './guest/inspect-commands.js';
import { addKeepCommand } from './keep/keep-command.js';
import { addPolicyCommands } from './policy/policy-commands.js';
import { addPropertyCommands } from './property/property-commands.js';
import { addServeCommand } from './host/serve-command.js';
import { addVerifyCommand } from './evidence/verify-command.js';

export { runCommandLine } from './run-command-line.js';

/** What the help of each executable ends with. */
const EXIT_CODES = `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (authorization or policy),
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
  addKeepCommand(program);
  addGuestCommands(program);
  addHostCommands(program);
  addInspectCommands(program);
  addAuditCommands(program);
  addPropertyCommands(program);
  addPolicyCommands(program);
  addEvidenceCommand(program);
  addVerifyCommand(program);
  addDoctorCommand(program);
  return program;
}
