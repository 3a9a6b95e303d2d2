// tpmux policy …
import { InvalidArgumentError, type Command } from 'commander';
import { loadConfig } from '../../config/config.js';
import { checkName } from '../../guests/name.js';
import { EXIT, Failure } from '../../failure.js';
import { explainChange, explainPolicy } from '../../policy/explain-policy.js';
import { GuestPolicy } from '../../policy/guest-policy.js';
import { limitsOf, type Limits } from '../../config/limits.js';
import { PolicyClasses } from '../../policy/policy-classes.js';
import { policyChanges } from '../../policy/policy-changes.js';
import { parsePolicy } from '../../policy/policy-file.js';
import { clientContext, clientOptions, type ClientOptions } from '../client-command.js';
import { standardOutput } from '../output.js';
import { readText } from '../property/files.js';

/** Adds `policy` and its subcommands. */
export function addPolicyCommands(program: Command): void {
  const policy = program.command('policy').description("check, explain and compare guests' policies");
  addCheck(policy);
  addExplain(policy);
  addDiff(policy);
  addReload(policy);
}

interface FileOptions extends ClientOptions {
  readonly classes?: string;
}

/** A policy and all limits that come with it. */
interface Found {
  readonly policy: GuestPolicy;
  readonly limits: Limits;
}

function fileOptions(command: Command): Command {
  return clientOptions(command).option('--classes <dir>', 'directory of classes (default: policies.directory of the configuration)');
}

function addCheck(policy: Command): void {
  fileOptions(policy.command('check <file>').description('check a policy file; needs no daemon'))
    .addHelpText('after', '\nExample:\n  tpmux policy check web.yaml\n')
    .action(async (path: string, options: FileOptions) => {
      const { policy: found } = await fromFile(path, options);
      if (options.json === true) standardOutput.json({ file: path, hash: found.hash, settings: found.settings });
      else standardOutput.line(`${path}: ok, ${found.hash}`);
    });
}

function addExplain(policy: Command): void {
  fileOptions(policy.command('explain [file]').description('tell in words what a policy means; needs no daemon for a file'))
    .option('--guest <name>', 'the policy of this guest instead of a file')
    .addHelpText('after', '\nExamples:\n  tpmux policy explain web.yaml\n  tpmux policy explain --guest web1\n')
    .action(async (path: string | undefined, { guest, ...options }: FileOptions & { guest?: string }) => {
      const { policy: found, limits } = await find(oneOf(path, guest), options);
      const explanation = explainPolicy(found, limits);
      if (options.json === true) {
        standardOutput.json({ hash: found.hash, settings: found.settings, limits, explanation });
        return;
      }
      for (const { topic, statements } of explanation) {
        standardOutput.line(topic);
        for (const statement of statements) standardOutput.line(`  ${statement}`);
      }
    });
}

function addDiff(policy: Command): void {
  fileOptions(policy.command('diff <a> <b>').description('tell how two policies differ and when each difference takes effect'))
    .addHelpText(
      'after',
      '\nEach is a file or guest:NAME. Exit code 0 if they are the same, 1 if they differ.\n' +
        '\nExamples:\n  tpmux policy diff old.yaml new.yaml\n  tpmux policy diff guest:web1 web.yaml\n',
    )
    .action(async (a: string, b: string, options: FileOptions) => {
      const [from, to] = [await find(a, options), await find(b, options)];
      const changes = policyChanges(from.policy, to.policy);
      if (options.json === true) standardOutput.json({ from: from.policy.hash, to: to.policy.hash, changes });
      else for (const change of changes) standardOutput.line(explainChange(change));
      if (changes.length > 0) process.exitCode = EXIT.failed;
    });
}

function addReload(policy: Command): void {
  clientOptions(policy.command('reload').description('read the policy classes again and give them to their guests; SIGHUP does the same'))
    .addHelpText('after', '\nExample:\n  tpmux policy reload\n')
    .action(async (options: ClientOptions) => {
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('reloadPolicies', {});
      const { classes, problems, guests } = answer;
      const refused = guests.find(({ reason }) => reason !== null);
      if (json) out.json(answer);
      else {
        out.line(`classes: ${classes.join(', ') || 'none'}`);
        for (const problem of problems) out.line(`not used: ${problem}`);
        for (const { guest, changes } of guests) for (const change of changes) out.line(`${guest}: ${explainChange(change)}`);
      }
      if (refused === undefined) return;
      const what = `the policy of guest ${refused.guest}, which keeps what it has`;
      throw new Failure({ code: 'reload_failed', what, why: refused.reason ?? '', hint: '', exit: EXIT.failed });
    });
}

/** Exactly one of a file and `--guest`. */
function oneOf(path: string | undefined, guest: string | undefined): string {
  if ((path === undefined) === (guest === undefined)) throw new InvalidArgumentError('Expected a file or --guest.');
  return path ?? `guest:${guest ?? ''}`;
}

async function find(place: string, options: FileOptions): Promise<Found> {
  return place.startsWith('guest:') ? fromGuest(place.slice('guest:'.length), options) : fromFile(place, options);
}

async function fromFile(path: string, { classes: directory }: FileOptions): Promise<Found> {
  const config = await loadConfig({}, process.env);
  const classes = await PolicyClasses.read(directory ?? config.policyDirectory);
  const policy = classes.resolve(parsePolicy(path, await readText(path)), path);
  return { policy, limits: limitsOf(policy.limits, config.limits) };
}

async function fromGuest(name: string, options: FileOptions): Promise<Found> {
  checkName(name);
  const { api } = await clientContext(options);
  const { settings, limits, reason } = await api.ask('showPolicy', { params: { name } });
  if (settings === null || limits === null) {
    throw new Failure({
      code: 'bad_policy',
      what: `the policy of guest ${name}`,
      why: reason ?? 'it cannot be used',
      hint: '',
      exit: EXIT.refused,
    });
  }
  const path = `of guest ${name}`;
  return { policy: new GuestPolicy(parsePolicy(path, JSON.stringify(settings)), path), limits };
}
