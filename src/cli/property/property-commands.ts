// tpmux property …
import { type Command } from 'commander';
import { EXIT, Failure } from '../../failure.js';
import { clientContext, clientOptions, type ClientOptions } from '../client-command.js';
import { table } from '../output.js';
import { addIssuerCommands } from './issuer-commands.js';
import { readText } from './files.js';
import type { ApiClient } from '../../api/client.js';
import type { Answer } from '../../api/endpoint.js';
import type { Api } from '../../api/endpoints.js';

/** Envelopes of one request, in characters: the daemon takes a mebibyte. */
const BATCH_SIZE = 700_000;
const MAX_BATCH = 1000;

/** Adds `property` and its subcommands. */
export function addPropertyCommands(program: Command): void {
  const property = program.command('property').description('make, keep and explain property statements');
  addIssuerCommands(property);
  addAdd(property);
  addList(property);
  addShow(property);
  addRemove(property);
  addExplain(property);
}

function addAdd(property: Command): void {
  clientOptions(
    property.command('add <file...>').description('give signed statements to the daemon; guests go by them from their next reset on'),
  )
    .addHelpText('after', '\nExample:\n  tpmux property add kernel.json\n')
    .action(async (files: string[], options: ClientOptions) => {
      const { api, out, json } = await clientContext(options);
      const envelopes = (await Promise.all(files.map(readText))).flatMap(envelopesIn);
      const added: string[] = [];
      for (const batch of batches(envelopes)) {
        added.push(...(await api.ask('addStatements', { body: { envelopes: batch } })).added);
      }
      if (json) out.json({ added });
      else for (const id of added) out.line(id);
    });
}

/** A file has one envelope, or one on each line. */
function envelopesIn(text: string): string[] {
  try {
    JSON.parse(text);
    return [text];
  } catch {
    return text.split('\n').filter((line) => line.trim() !== '');
  }
}

function batches(envelopes: readonly string[]): string[][] {
  const all: string[][] = [];
  let size = Infinity;
  for (const envelope of envelopes) {
    const last = all.at(-1);
    if (last === undefined || size + envelope.length > BATCH_SIZE || last.length >= MAX_BATCH) {
      all.push([envelope]);
      size = envelope.length;
    } else {
      last.push(envelope);
      size += envelope.length;
    }
  }
  return all;
}

function addList(property: Command): void {
  clientOptions(property.command('list').description('list all statements and whether they are in force'))
    .addHelpText('after', '\nExample:\n  tpmux property list\n')
    .action(async (options: ClientOptions) => {
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('listStatements', {});
      if (json) {
        out.json(answer);
        return;
      }
      const rows = answer.statements.map((one) => [one.id.slice(0, 16), one.issuer, one.subjects, stateOf(one), textOf(one.properties)]);
      for (const line of table(['STATEMENT', 'ISSUER', 'SUBJECTS', 'STATE', 'PROPERTIES'], rows)) out.line(line);
    });
}

function addShow(property: Command): void {
  clientOptions(property.command('show <id>').description('show one statement; a part of the identifier is enough'))
    .addHelpText('after', '\nExample:\n  tpmux property show 3f1c\n')
    .action(async (id: string, options: ClientOptions) => {
      const context = await clientContext(options);
      const answer = await context.api.ask('showStatement', { params: { id: await wholeId(context.api, id) } });
      if (context.json) {
        context.out.json(answer);
        return;
      }
      const { subjects, ...one } = answer;
      const rows: (readonly [string, string])[] = [
        ['statement', one.id],
        ['issuer', one.issuer],
        ['state', `${stateOf(one)}${one.why === null ? '' : `: ${one.why}`}`],
        ['valid', `${one.notBefore} to ${one.notAfter}`],
        ['properties', textOf(one.properties)],
      ];
      for (const [name, value] of rows) context.out.line(`${name.padEnd(10)}  ${value}`);
      for (const { name, digest } of subjects) {
        context.out.line(`subject     ${name}`);
        for (const [bank, hex] of Object.entries(digest)) context.out.line(`            ${bank}:${hex ?? ''}`);
      }
    });
}

function addRemove(property: Command): void {
  clientOptions(property.command('remove <id>').description('forget a statement; it can be added again, so this is no revocation'))
    .addHelpText('after', '\nExample:\n  tpmux property remove 3f1c\n')
    .action(async (id: string, options: ClientOptions) => {
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('removeStatement', { params: { id: await wholeId(api, id) } });
      if (json) out.json(answer);
    });
}

function addExplain(property: Command): void {
  clientOptions(property.command('explain <digest>').description('tell what a digest means, and which statements count or do not, and why'))
    .addHelpText('after', '\nExample:\n  tpmux property explain sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n')
    .action(async (digest: string, options: ClientOptions) => {
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('explainDigest', { query: { digest } });
      if (json) {
        out.json(answer);
        return;
      }
      const { bank, digest: hex, known, properties, extended, statements } = answer;
      out.line(`${bank}:${hex}`);
      if (known) {
        for (const { name, value } of properties) out.line(`  ${name}=${value.toString()}`);
        out.line(`  certified extends ${extended ?? ''}`);
      } else out.line('  unknown: no statement about it is in force');
      for (const one of statements) {
        out.line(`statement ${one.id.slice(0, 16)} of ${one.issuer}: ${stateOf(one)}${one.why === null ? '' : `: ${one.why}`}`);
      }
    });
}

/** The identifier that begins with `start`. */
async function wholeId(api: ApiClient, start: string): Promise<string> {
  if (/^[0-9a-f]{64}$/.test(start)) return start;
  const { statements } = await api.ask('listStatements', {});
  const found = statements.filter(({ id }) => id.startsWith(start));
  const [only] = found;
  if (only !== undefined && found.length === 1) return only.id;
  throw new Failure({
    code: 'statement_not_found',
    what: `property statement ${start}`,
    why: found.length === 0 ? 'there is no such statement' : `${found.length.toString()} statements begin so`,
    hint: "'tpmux property list --json' shows whole identifiers",
    exit: found.length === 0 ? EXIT.failed : EXIT.usage,
  });
}

type Summary = Answer<Api['listStatements']>['statements'][number];

function stateOf({ inForce, code }: Pick<Summary, 'inForce' | 'code'>): string {
  return inForce ? 'in force' : (code ?? 'refused').replaceAll('_', ' ');
}

function textOf(properties: Summary['properties']): string {
  return Object.entries(properties)
    .map(([name, value]) => `${name}=${value.toString()}`)
    .join(' ');
}
