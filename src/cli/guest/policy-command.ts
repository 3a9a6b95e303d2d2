// tpmux guest policy: shows a guest's policy, or gives it another one.
import type { Command } from 'commander';
import { checkName } from '../../guests/name.js';
import { EXIT, Failure } from '../../failure.js';
import { explainChange } from '../../policy/explain-policy.js';
import { parsePolicy } from '../../policy/policy-file.js';
import { clientContext, clientOptions, type ClientContext, type ClientOptions } from '../client-command.js';
import { readText } from '../property/files.js';

/** Adds `guest policy`. */
export function addGuestPolicyCommand(guest: Command): void {
  clientOptions(guest.command('policy <name> [file]').description("show a guest's policy, or give it the one in a file"))
    .option('--none', 'take its policy away')
    .addHelpText('after', '\nExamples:\n  tpmux guest policy web1\n  tpmux guest policy web1 web.yaml\n')
    .action(async (name: string, file: string | undefined, { none, ...options }: ClientOptions & { none?: boolean }) => {
      checkName(name);
      const context = await clientContext(options);
      if (none === true && file !== undefined) {
        throw new Failure({ code: 'usage', what: 'command line', why: '--none and a file exclude each other', hint: '', exit: EXIT.usage });
      }
      if (none === true) await set(context, name, null);
      else if (file !== undefined) await set(context, name, await checkedText(file));
      else await show(context, name);
    });
}

/** An error in the file is told with the file's name; what depends on its class is the daemon's to check. */
async function checkedText(file: string): Promise<string> {
  const text = await readText(file);
  parsePolicy(file, text);
  return text;
}

async function show({ api, out, json }: ClientContext, name: string): Promise<void> {
  const answer = await api.ask('showPolicy', { params: { name } });
  if (json) {
    out.json(answer);
    return;
  }
  const { text, hash, reason, pending } = answer;
  out.line(`# ${hash ?? `it cannot be used: ${reason ?? ''}`}`);
  if (pending) out.line("# a part of it waits for the guest's next reset");
  out.line(text?.trimEnd() ?? '# the guest has no policy');
}

async function set({ api, out, json }: ClientContext, name: string, policy: string | null): Promise<void> {
  const answer = await api.ask('setPolicy', { params: { name }, body: { policy } });
  if (json) {
    out.json(answer);
    return;
  }
  const { changes } = answer;
  for (const change of changes) out.line(explainChange(change));
  if (changes.length === 0) out.line('nothing changes');
}
