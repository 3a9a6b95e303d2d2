// tpmux guest export, import and repair.
import { open, readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { checkName } from '../../guests/name.js';
import { readBackup, recoverStateKey } from '../../guests/backups/document.js';
import { EXIT, Failure, reasonOf } from '../../failure.js';
import type { Answer } from '../../api/endpoint.js';
import type { Api } from '../../api/endpoints.js';
import { clientContext, clientOptions, type ClientContext, type ClientOptions } from '../client-command.js';

/** Adds them to `guest`. */
export function addBackupCommands(guest: Command): void {
  addExport(guest);
  addImport(guest);
  addRepair(guest);
}

function addExport(guest: Command): void {
  clientOptions(guest.command('export <name>').description('write a backup of what is durable of a guest'))
    .requiredOption('--out <file>', 'the backup; must not exist')
    .addHelpText('after', '\nExample:\n  tpmux guest export web1 --out web1.tpmux\n')
    .action(async (name: string, { out: path, ...options }: ClientOptions & { out: string }) => {
      checkName(name);
      const { api, out, json } = await clientContext(options);
      const { backup, recovery } = await api.ask('exportGuest', { params: { name } });
      await writeNew(path, backup);
      const opens = recovery ? 'this TPM, or its recovery key' : 'this TPM only';
      if (json) out.json({ guest: name, file: path, recovery });
      else out.line(`exported ${name} to ${path}; it can be opened with ${opens}`);
    });
}

interface ImportOptions extends ClientOptions {
  readonly in: string;
  readonly recoveryKey?: string;
  readonly replace?: boolean;
}

function addImport(guest: Command): void {
  clientOptions(guest.command('import').description('bring a guest back from a backup; it is off afterwards'))
    .requiredOption('--in <file>', 'the backup')
    .option('--recovery-key <file>', 'private recovery key (PEM), if the TPM of the backup is not there: keys of the guest are lost')
    .option('--replace', 'let it take the place of the same guest, which must be off')
    .addHelpText(
      'after',
      '\nExamples:\n  tpmux guest import --in web1.tpmux\n  tpmux guest import --in web1.tpmux --recovery-key recovery.pem\n',
    )
    .action(async ({ in: path, recoveryKey, replace, ...options }: ImportOptions) => {
      const backup = await readText(path);
      const recovered = recoveryKey === undefined ? undefined : await recoverStateKey(readBackup(backup), await readText(recoveryKey));
      const context = await clientContext(options);
      const keys = recovered && {
        stateKey: recovered.stateKey.toString('base64'),
        recoveryKey: recovered.recoveryKey.toString('base64'),
      };
      recovered?.stateKey.fill(0);
      showImport(context, await context.api.ask('importGuest', { body: { backup, replace, recovered: keys } }));
    });
}

function showImport({ out, json }: ClientContext, answer: Answer<Api['importGuest']>): void {
  if (json) {
    out.json(answer);
    return;
  }
  const { guest, lost } = answer;
  out.line(`imported ${guest.name}; it is off`);
  if (lost.length > 0) out.line(`lost, because they are keys of the other TPM: ${lost.join(', ')}`);
}

function addRepair(guest: Command): void {
  clientOptions(guest.command('repair <name>').description('show what is left of a guest whose state is damaged, and go on with that'))
    .option('--yes', 'give up what is damaged; without it nothing is changed')
    .addHelpText('after', '\nExamples:\n  tpmux guest repair web1\n  tpmux guest repair web1 --yes\n')
    .action(async (name: string, { yes, ...options }: ClientOptions & { yes?: boolean }) => {
      checkName(name);
      const context = await clientContext(options);
      showRepair(context, name, await context.api.ask('repairGuest', { params: { name }, body: { apply: yes === true } }));
    });
}

function showRepair({ out, json }: ClientContext, name: string, answer: Answer<Api['repairGuest']>): void {
  if (json) {
    out.json(answer);
    return;
  }
  const { applied, kept, lost, complete, savedAs } = answer;
  if (complete) {
    out.line(`guest ${name} is not damaged: ${kept.toString()} records`);
    return;
  }
  out.line(`good records: ${kept.toString()}`);
  for (const { record, reason } of lost) out.line(`damaged: ${record} (${reason})`);
  out.line('records may be missing or from an older time; a backup is better');
  out.line(applied ? `repaired; what there was is in ${savedAs ?? ''}` : 'nothing was changed; add --yes to go on with the good records');
}

async function readText(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    throw fileFailure(`reading ${path}`, error, 'name a file that can be read');
  });
}

async function writeNew(path: string, text: string): Promise<void> {
  try {
    const handle = await open(path, 'wx', 0o600);
    try {
      await handle.writeFile(text, 'utf8');
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fileFailure(`writing ${path}`, error, 'name a file that does not exist');
  }
}

function fileFailure(what: string, error: unknown, hint: string): Failure {
  return new Failure({ code: 'bad_file', what, why: reasonOf(error), hint, exit: EXIT.usage });
}
