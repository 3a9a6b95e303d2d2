// tpmux evidence
import type { Command } from 'commander';
import { clientContext, clientOptions, type ClientOptions } from '../client-command.js';
import { writeResult } from '../property/files.js';

interface EvidenceOptions extends ClientOptions {
  readonly provider?: string;
  readonly out?: string;
}

/** Adds `evidence`. */
export function addEvidenceCommand(program: Command): void {
  clientOptions(
    program.command('evidence <guest>').description("what a verifier needs beside a guest's quote: its translated log, and statements"),
  )
    .option('--provider <name>', "for a quote of one provider's vector (tpmux-guest quote), instead of tpm2_quote's")
    .option('--out <file>', 'write it there instead of to standard output')
    .addHelpText(
      'after',
      "\nThe guest's policy says which properties and digests it shows.\n\nExample:\n  tpmux evidence web1 --out web1.evidence\n",
    )
    .action(async (name: string, { provider, out: path, ...options }: EvidenceOptions) => {
      const { api } = await clientContext(options);
      const { evidence, withheld } = await api.ask('readEvidence', { params: { name }, query: { provider } });
      await writeResult(JSON.stringify(evidence), path);
      if (withheld === 0) return;
      process.stderr.write(
        `tpmux: ${withheld.toString()} measurement${withheld === 1 ? '' : 's'} of guest ${name} can't be verified: its policy hides what their statements show ` +
          "(issue these with 'tpmux property issue --hidden')\n",
      );
    });
}
