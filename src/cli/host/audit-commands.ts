// tpmux audit …
import type { Command } from 'commander';
import { readAudit } from '../../host/audit-log.js';
import { EXIT, Failure } from '../../failure.js';
import type { Answer } from '../../api/endpoint.js';
import type { Api } from '../../api/endpoints.js';
import { clientContext, clientOptions, type ClientOptions } from '../client-command.js';

interface AuditOptions extends ClientOptions {
  readonly file?: string;
}

/** Adds `audit` and its subcommands. */
export function addAuditCommands(program: Command): void {
  const audit = program.command('audit').description('show and check the audit log');
  addList(audit);
  addVerify(audit);
}

function addList(audit: Command): void {
  clientOptions(audit.command('list').description('what happened to guests, oldest first'))
    .option('--guest <name>', 'entries about this guest only')
    .option('--file <file>', 'read this log instead of asking the daemon')
    .addHelpText('after', '\nExample:\n  tpmux audit list --guest web1\n')
    .action(async ({ guest, ...options }: AuditOptions & { guest?: string }) => {
      const { out, json } = await clientContext(options);
      const answer = await readLog(options);
      const entries = guest === undefined ? answer.entries : answer.entries.filter((entry) => entry.guest === guest);
      if (json) {
        out.json({ ...answer, entries });
        return;
      }
      for (const { number, time, event, guest: name = '-', detail = '' } of entries) {
        out.line(`${number.toString().padStart(4)}  ${time}  ${event.padEnd(16)}  ${name}  ${detail}`.trimEnd());
      }
      if (answer.problems.length > 0) throw damaged(answer.problems);
    });
}

function addVerify(audit: Command): void {
  clientOptions(audit.command('verify').description('check that no entry was changed or taken out'))
    .option('--head <hash>', 'a hash that was printed before: that entry must still be there')
    .option('--file <file>', 'check this log instead of asking the daemon')
    .addHelpText('after', '\nExample:\n  tpmux audit verify --head 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\n')
    .action(async ({ head, ...options }: AuditOptions & { head?: string }) => {
      const { out, json } = await clientContext(options);
      const answer = await readLog(options);
      const { entries, problems } = answer;
      const known = head === undefined || head === answer.head.hash || entries.some(({ previous }) => previous === head);
      const found = known ? problems : [...problems, 'no entry has the given hash: entries were taken off or written anew'];
      if (json) out.json({ entries: answer.head.entries, head: answer.head.hash, problems: found });
      if (found.length > 0) throw damaged(found);
      if (!json) out.line(`${answer.head.entries.toString()} entries, all there; head ${answer.head.hash}`);
    });
}

async function readLog({ file, ...options }: AuditOptions): Promise<Answer<Api['audit']>> {
  if (file !== undefined) return await readAudit(file);
  const { api } = await clientContext(options);
  return await api.ask('audit', {});
}

function damaged(problems: readonly string[]): Failure {
  return new Failure({
    code: 'audit_log_damaged',
    what: 'checking the audit log',
    why: problems.join('; '),
    hint: 'compare it with a copy that was kept elsewhere',
    exit: EXIT.failed,
  });
}
