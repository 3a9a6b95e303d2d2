// tpmux property issue|revoke|from-eventlog: what an issuer does with its key, without a daemon where that is possible.
import { InvalidArgumentError, type Command } from 'commander';
import { EXIT, Failure } from '../../failure.js';
import { EVENT_TYPE, EventLogError, parseEventLog } from '../../statements/event-log.js';
import { groupMeasurements } from '../../statements/from-event-log.js';
import { parseEnvelope } from '../../statements/dsse.js';
import type { Properties } from '../../statements/properties.js';
import { issueRevocations, readRevocations, type Revocation, type RevocationList } from '../../statements/revocation.js';
import { issueStatement, type Subject } from '../../statements/statement.js';
import { clientContext, clientOptions, type ClientOptions } from '../client-command.js';
import {
  collect,
  digestSubject,
  efiSubject,
  fileSubject,
  naming,
  propertyOption,
  readBytes,
  readKey,
  readText,
  timeOption,
  writeResult,
} from './files.js';

const DAY = 86_400_000;
const DEFAULT_DAYS = 365;

/** Adds the subcommands that sign. */
export function addIssuerCommands(property: Command): void {
  addIssue(property);
  addFromEventLog(property);
  addRevoke(property);
}

interface SigningOptions {
  readonly key: string;
  readonly issuer: string;
  readonly property: Properties;
  readonly notBefore?: Date;
  readonly days: number;
  readonly hidden?: boolean;
  readonly out?: string;
}

/** Options of every command that issues statements. */
function signingOptions(command: Command): Command {
  return command
    .requiredOption('--key <file>', "the issuer's private key in PEM: Ed25519, ECDSA P-256 or RSA")
    .requiredOption('--issuer <name>', 'who states it, as in properties.trust of the configuration')
    .requiredOption('--property <name=value>', 'what is stated; repeatable', propertyOption)
    .option('--not-before <time>', 'valid from, e.g. 2026-01-31T12:00:00Z (default: now)', timeOption)
    .option('--days <number>', 'how long it is valid', daysOption, DEFAULT_DAYS)
    .option('--hidden', 'sign salted commitments in place of digests and names, so that it can be shown without them')
    .option('--out <file>', 'write it there instead of to standard output')
    .option('--debug', 'print a stack trace with an error');
}

function daysOption(text: string): number {
  const days = Number(text);
  if (!(days > 0 && days <= 36_500)) throw new InvalidArgumentError('Expected a number of days.');
  return days;
}

async function issued(
  options: SigningOptions,
  groups: readonly { subjects: readonly Subject[]; properties: Properties }[],
): Promise<string> {
  const key = await readKey(options.key);
  const notBefore = options.notBefore ?? new Date();
  const notAfter = new Date(notBefore.getTime() + options.days * DAY);
  return naming('issuing the statement', () =>
    groups
      .map((group) => issueStatement({ ...group, issuer: options.issuer, notBefore, notAfter, hidden: options.hidden }, key))
      .join('\n'),
  );
}

function addIssue(property: Command): void {
  signingOptions(property.command('issue').description('sign a statement about files or digests; needs no daemon'))
    .option('--file <file>', 'a thing that it is about, by all digests of its content; repeatable', collect)
    .option('--efi <file>', 'an EFI program (boot loader, kernel, driver), by its Authenticode digests; repeatable', collect)
    .option('--digest <[name=]digest,...>', 'a thing that it is about, by its digests; repeatable', collect)
    .addHelpText(
      'after',
      '\nExample:\n  tpmux property issue --key build.pem --issuer build@example.org --property os.level=3 --efi vmlinuz --out vmlinuz.json\n',
    )
    .action(async (options: SigningOptions & { file?: readonly string[]; efi?: readonly string[]; digest?: readonly string[] }) => {
      const { file = [], efi = [], digest = [], property: properties } = options;
      if (file.length + efi.length + digest.length === 0)
        throw wrongUsage('issuing the statement', 'it is about nothing', 'give --file, --efi or --digest');
      const subjects = [...(await Promise.all([...file.map(fileSubject), ...efi.map(efiSubject)])), ...digest.map(digestSubject)];
      await writeResult(await issued(options, [{ subjects, properties }]), options.out);
    });
}

function addFromEventLog(property: Command): void {
  signingOptions(
    property
      .command('from-eventlog <file>')
      .description('sign statements about all that a known-good machine measured, from its TCG event log; needs no daemon'),
  )
    .option('--pcr <index>', 'only this PCR; repeatable', pcrOption)
    .option('--event <type>', 'only events of this type, e.g. EV_SEPARATOR; repeatable', eventOption)
    .option('--plain', 'leave out the properties tpm.pcr and tpm.event: then any of these things can stand for any other')
    .addHelpText(
      'after',
      '\nExample:\n  tpmux property from-eventlog /sys/kernel/security/tpm0/binary_bios_measurements --key build.pem \\\n' +
        '    --issuer build@example.org --property machine.good --out good.jsonl\n  tpmux property add good.jsonl\n',
    )
    .action(async (file: string, options: SigningOptions & { pcr?: ReadonlySet<number>; event?: ReadonlySet<string>; plain?: boolean }) => {
      const { pcr: pcrs, event: types, plain, property: properties } = options;
      const groups = groupMeasurements(eventLog(file, await readBytes(file)), properties, { pcrs, types, plain });
      if (groups.length === 0) throw wrongUsage(`statements from ${file}`, 'the log has no such measurements', '');
      await writeResult(await issued(options, groups), options.out);
    });
}

function eventLog(file: string, bytes: Buffer): ReturnType<typeof parseEventLog> {
  try {
    return parseEventLog(bytes);
  } catch (error) {
    if (!(error instanceof EventLogError)) throw error;
    throw wrongUsage(`reading the event log ${file}`, error.message, 'a binary TCG event log in the crypto-agile format is expected');
  }
}

function pcrOption(text: string, earlier: ReadonlySet<number> = new Set()): ReadonlySet<number> {
  const index = Number(text);
  if (!/^\d{1,2}$/.test(text) || index > 23) throw new InvalidArgumentError('A PCR index is 0 to 23.');
  return new Set([...earlier, index]);
}

function eventOption(text: string, earlier: ReadonlySet<string> = new Set()): ReadonlySet<string> {
  const known: readonly string[] = Object.keys(EVENT_TYPE);
  if (!known.includes(text)) throw new InvalidArgumentError(`Expected one of ${known.join(', ')}.`);
  return new Set([...earlier, text]);
}

interface RevokeOptions extends ClientOptions {
  readonly key: string;
  readonly issuer: string;
  readonly digest?: readonly string[];
  readonly reason: string;
  readonly list?: string;
  readonly out?: string;
}

function addRevoke(property: Command): void {
  clientOptions(
    property.command('revoke [id...]').description("revoke statements: signs the issuer's next revocation list and gives it to the daemon"),
  )
    .requiredOption('--key <file>', "the issuer's private key in PEM")
    .requiredOption('--issuer <name>', 'whose statements they are')
    .option('--digest <digest,...>', 'revoke all that the issuer stated about a digest; repeatable', collect)
    .option('--reason <text>', 'why, for people', '')
    .option('--list <file>', 'take the last list from there instead of from the daemon')
    .option('--out <file>', 'write the list there instead of giving it to the daemon')
    .addHelpText('after', '\nExample:\n  tpmux property revoke --key build.pem --issuer build@example.org 3f1c… --reason "CVE-2026-1"\n')
    .action(async (ids: string[], options: RevokeOptions) => {
      const revoked = [
        ...ids.map((statement): Revocation => ({ statement, reason: options.reason })),
        ...(options.digest ?? []).map((text): Revocation => ({ digest: digestSubject(text).digest, reason: options.reason })),
      ];
      if (revoked.length === 0) throw wrongUsage('revoking', 'nothing is to be revoked', 'give identifiers of statements, or --digest');
      const list = nextList(options.issuer, await lastList(options), revoked);
      const key = await readKey(options.key);
      const envelope = naming('signing the revocation list', () => issueRevocations(list, key));
      if (options.out !== undefined) {
        await writeResult(envelope, options.out);
        return;
      }
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('addRevocations', { body: { envelope } });
      if (json) out.json(answer);
      else
        out.line(
          `list ${list.number.toString()} of ${list.issuer}: ${list.revoked.length.toString()} revoked; guests notice at their next reset`,
        );
    });
  clientOptions(property.command('revocations <file>').description('give a signed revocation list to the daemon'))
    .addHelpText('after', '\nExample:\n  tpmux property revocations build-revoked.json\n')
    .action(async (file: string, options: ClientOptions) => {
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('addRevocations', { body: { envelope: await readText(file) } });
      if (json) out.json(answer);
    });
}

/** The list that the new one is to replace. */
async function lastList({ issuer, list, out, ...options }: RevokeOptions): Promise<RevocationList | undefined> {
  if (list !== undefined) {
    const text = await readText(list);
    return naming(`reading the revocation list ${list}`, () => readRevocations(parseEnvelope(text)));
  }
  if (out !== undefined) return undefined;
  const { api } = await clientContext(options);
  const { envelope } = await api.ask('showRevocations', { params: { issuer } });
  return envelope === null
    ? undefined
    : naming('reading the revocation list', () => readRevocations(parseEnvelope(JSON.stringify(envelope))));
}

function nextList(issuer: string, last: RevocationList | undefined, revoked: readonly Revocation[]): RevocationList {
  if (last !== undefined && last.issuer !== issuer) {
    throw wrongUsage('revoking', `the last list is of issuer ${last.issuer}`, 'name the list of the same issuer');
  }
  for (const one of revoked) {
    if ('statement' in one && !/^[0-9a-f]{64}$/.test(one.statement)) {
      throw wrongUsage('revoking', `${one.statement} is no whole identifier`, "'tpmux property list --json' shows them");
    }
  }
  const issuedAt = `${new Date().toISOString().slice(0, 19)}Z`;
  return { issuer, number: (last?.number ?? 0) + 1, issued: issuedAt, revoked: [...(last?.revoked ?? []), ...revoked] };
}

function wrongUsage(what: string, why: string, hint: string): Failure {
  return new Failure({ code: 'usage', what, why, hint, exit: EXIT.usage });
}
