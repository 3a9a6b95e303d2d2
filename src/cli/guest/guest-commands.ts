// tpmux guest …
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { InvalidArgumentError, type Command } from 'commander';
import { checkName } from '../../guests/name.js';
import { EXIT, Failure, reasonOf } from '../../failure.js';
import { parsePolicy } from '../../policy/policy-file.js';
import type { GuestView } from '../../guests/view.js';
import { addAttachCommand } from './attach-command.js';
import { addBackupCommands } from './backup-commands.js';
import { clientContext, clientOptions, type ClientContext, type ClientOptions } from '../client-command.js';
import { addGuestPolicyCommand } from './policy-command.js';
import { table } from '../output.js';

/** Adds `guest` and its subcommands. */
export function addGuestCommands(program: Command): void {
  const guest = program.command('guest').description('create, show, run and remove guests');
  addCreate(guest);
  clientOptions(guest.command('list').description('list all guests'))
    .addHelpText('after', '\nExample:\n  tpmux guest list --json\n')
    .action(async (options: ClientOptions) => {
      await list(await clientContext(options));
    });
  clientOptions(guest.command('show <name>').description('show one guest'))
    .addHelpText('after', '\nExample:\n  tpmux guest show web1\n')
    .action(async (name: string, options: ClientOptions) => {
      checkName(name);
      const context = await clientContext(options);
      show(context, await context.api.ask('showGuest', { params: { name } }));
    });
  addLifeCycle(guest);
  addRemove(guest);
  addAttachCommand(guest);
  addGuestPolicyCommand(guest);
  addBackupCommands(guest);
}

interface CreateOptions extends ClientOptions {
  readonly policy?: string;
  readonly recoveryKey?: string;
  readonly start: boolean;
  readonly tcp?: number;
  readonly mssim?: number;
  readonly serial?: string[];
  readonly consoleSocket?: string[];
}

function addCreate(guest: Command): void {
  clientOptions(guest.command('create <name>').description('create a guest with a TPM of its own, and start it'))
    .option('--policy <file>', "the guest's policy (YAML or JSON)")
    .option('--recovery-key <file>', 'public X25519 key (PEM); its private key opens backups where this TPM is not there')
    .option('--no-start', 'leave the guest off')
    .option('--tcp <port>', 'serve it on 127.0.0.1:PORT (data) and PORT+1 (control) too', firstPort)
    .option('--mssim <port>', "serve the simulator's protocol on 127.0.0.1:PORT (commands) and PORT+1 (platform)", firstPort)
    .option('--serial <path>', 'serve raw TPM commands on this tty; may be repeated', addPath)
    .option('--console-socket <path>', 'serve raw TPM commands on this UNIX socket, to which is connected; may be repeated', addPath)
    .addHelpText(
      'after',
      '\nExamples:\n  tpmux guest create web1\n  tpmux guest create ci --tcp 2321\n  tpmux guest create later --no-start\n' +
        '  tpmux guest create pv1 --console-socket /run/pv1.console\n',
    )
    .action(async (name: string, { policy, recoveryKey, start, tcp, mssim, serial, consoleSocket, ...options }: CreateOptions) => {
      checkName(name);
      const text = policy === undefined ? undefined : await readText('policy', policy);
      if (policy !== undefined && text !== undefined) parsePolicy(policy, text);
      const key = recoveryKey === undefined ? undefined : await readText('recovery key', recoveryKey);
      const context = await clientContext(options);
      const body = { name, policy: text, recoveryKey: key, start, tcp, mssim, serial, consoleSockets: consoleSocket };
      show(context, await context.api.ask('createGuest', { body }));
    });
}

/** The first of two ports. */
function firstPort(value: string): number {
  const port = Number(value);
  if (!Number.isInteger(port) || port < 1 || port > 65534) throw new InvalidArgumentError('A port is 1 to 65534.');
  return port;
}

/** One more path of a repeatable option, as the daemon needs it: from the root. */
function addPath(value: string, before: readonly string[] = []): string[] {
  return [...before, resolve(value)];
}

async function readText(what: 'policy' | 'recovery key', path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    throw new Failure({
      code: what === 'policy' ? 'no_policy' : 'bad_recovery_key',
      what: `reading the ${what} ${path}`,
      why: reasonOf(error),
      hint: 'name a file that can be read',
      exit: EXIT.usage,
    });
  });
}

async function list({ api, out, json }: ClientContext): Promise<void> {
  const answer = await api.ask('listGuests', {});
  if (json) {
    out.json(answer);
    return;
  }
  const { guests } = answer;
  const rows = guests.map(({ name, state, powered, machine, tcp, tcti }) => [
    name,
    state,
    powered ? 'on' : 'off',
    machine === null ? '-' : describeMachine(machine),
    tcp === null ? '-' : tcp.toString(),
    tcti,
  ]);
  for (const line of table(['NAME', 'STATE', 'POWER', 'MACHINE', 'TCP', 'TCTI'], rows)) out.line(line);
}

function show({ out, json }: ClientContext, guest: GuestView): void {
  if (json) {
    out.json(guest);
    return;
  }
  const rows: (readonly [string, string])[] = [
    ['name', guest.name],
    ['id', guest.id],
    ['state', guest.reason === null ? guest.state : `${guest.state}: ${guest.reason}`],
    ['power', guest.powered ? 'on' : 'off'],
    ['autostart', guest.autostart ? 'yes' : 'no'],
    ['created', guest.created],
    ['policy', guest.policy ? 'yes' : 'none'],
    ['socket', guest.socket],
    ['control', guest.control],
    ['tcp', guest.tcp === null ? '-' : `127.0.0.1:${guest.tcp.toString()}, control ${(guest.tcp + 1).toString()}`],
    ['mssim', guest.mssim === null ? '-' : `127.0.0.1:${guest.mssim.toString()}, platform ${(guest.mssim + 1).toString()}`],
    ...guest.lines.map(({ kind, path, open, reason }): [string, string] => [
      kind === 'serial' ? 'serial' : 'console',
      `${path}: ${open ? 'open' : 'not open'}${reason === null ? '' : `, ${reason}`}`,
    ]),
    ['device', guest.device ?? '-'],
    ['tcti', guest.tcti],
    ['connections', guest.connections.toString()],
    ['machine', guest.machine === null ? 'none' : describeMachine(guest.machine)],
  ];
  for (const [name, value] of rows) out.line(`${name.padEnd(11)}  ${value}`);
}

const LIFE_CYCLE = {
  start: 'open the TPM of a guest and power it on',
  stop: 'power the TPM of a guest off and close it',
  reset: 'power-cycle the TPM of a running guest, as a reset of its machine does, or start one without the volatile state that was refused',
} as const;

const LIFE_CYCLE_ENDPOINTS = { start: 'startGuest', stop: 'stopGuest', reset: 'resetGuest' } as const;

function addLifeCycle(guest: Command): void {
  for (const action of ['start', 'stop', 'reset'] as const) {
    const description = LIFE_CYCLE[action];
    const command = clientOptions(guest.command(`${action} <name>`).description(description));
    if (action !== 'start') command.option('--yes', 'do not ask, also if a machine has the TPM');
    command
      .addHelpText('after', `\nExample:\n  tpmux guest ${action} web1\n`)
      .action(async (name: string, { yes, ...options }: ClientOptions & { yes?: boolean }) => {
        checkName(name);
        const context = await clientContext(options);
        if (action !== 'start' && yes !== true) await confirmForMachine(context, name, action);
        show(context, await context.api.ask(LIFE_CYCLE_ENDPOINTS[action], { params: { name } }));
      });
  }
}

function addRemove(guest: Command): void {
  clientOptions(guest.command('remove <name>').description('delete a guest, its keys and all its state for ever'))
    .option('--yes', 'do not ask')
    .addHelpText('after', '\nExample:\n  tpmux guest remove web1 --yes\n')
    .action(async (name: string, { yes, ...options }: ClientOptions & { yes?: boolean }) => {
      checkName(name);
      if (yes !== true) {
        await confirm({
          what: `removing guest ${name}`,
          question: `Delete guest ${name}, its keys and all its state for ever?`,
          hint: 'add --yes to remove it without a question',
        });
      }
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('removeGuest', { params: { name } });
      if (json) out.json(answer);
      else out.line(`removed ${name}`);
    });
}

/** What happens to a machine that has the TPM. */
const FOR_THE_MACHINE = {
  stop: 'loses its TPM now, and does not get it back before it is started anew',
  reset: 'goes on with a TPM that was reset under it: PCRs, sessions and loaded keys are gone, and commands fail until it boots anew',
} as const;

/** Asks if a machine has the TPM. */
async function confirmForMachine({ api }: ClientContext, name: string, action: keyof typeof FOR_THE_MACHINE): Promise<void> {
  const { machine } = await api.ask('showGuest', { params: { name } });
  if (machine === null) return;
  const what = action === 'stop' ? `stopping guest ${name}` : `resetting guest ${name}`;
  await confirm({
    what,
    question: `${describeMachine(machine)} has the TPM of ${name}; it ${FOR_THE_MACHINE[action]}. Go on?`,
    reason: `${describeMachine(machine)} has its TPM; it ${FOR_THE_MACHINE[action]}`,
    hint: `end the machine first, or add --yes`,
  });
}

interface Confirmation {
  readonly what: string;
  readonly question: string;
  /** Why it has to be confirmed. */
  readonly reason?: string;
  readonly hint: string;
}

/** Asks on the terminal. Rejects with a {@link Failure}, exit 2, if the answer is not yes or there is no terminal. */
async function confirm({ what, question, reason, hint }: Confirmation): Promise<void> {
  const refusal = (why: string): Failure =>
    new Failure({ code: 'not_confirmed', what, why: reason === undefined ? why : `${reason}; ${why}`, hint, exit: EXIT.usage });
  if (!process.stdin.isTTY) throw refusal('it was not confirmed, and there is no terminal to ask on');
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${question} [y/N] `);
  terminal.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw refusal('it was not confirmed');
}

/** The program of a machine, e.g. `qemu-system-x86 (4711)`. */
function describeMachine({ pid, program }: NonNullable<GuestView['machine']>): string {
  return `${program === '' ? 'a machine' : program}${pid === 0 ? '' : ` (${pid.toString()})`}`;
}
