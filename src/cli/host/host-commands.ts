// tpmux host: whom the state of the guests is sealed to
import { writeFile } from 'node:fs/promises';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { PCR_BANKS } from '../../config/config.js';
import { EXIT, Failure, reasonOf } from '../../failure.js';
import { clientContext, clientOptions, type ClientOptions } from '../client-command.js';

/** Adds `host reseal` and `host policy-digest`. */
export function addHostCommands(program: Command): void {
  const host = program.command('host').description("what the state of the host's guests is sealed to");
  addReseal(host);
  addPolicyDigest(host);
}

function addReseal(host: Command): void {
  clientOptions(host.command('reseal').description('seal the state of all guests to what the configuration says now'))
    .addHelpText('after', '\nExample:\n  tpmux host reseal\n')
    .action(async (options: ClientOptions) => {
      const { api, out, json } = await clientContext(options);
      const answer = await api.ask('reseal', {});
      const { resealed, failed } = answer;
      if (json) out.json(answer);
      else for (const guest of resealed) out.line(`${guest}: sealed anew`);
      const [first] = failed;
      if (first === undefined) return;
      const others = failed.length === 1 ? '' : `; ${(failed.length - 1).toString()} more guests failed`;
      throw new Failure({
        code: 'reseal_failed',
        what: `sealing guest ${first.guest} anew`,
        why: first.reason + others,
        hint: '',
        exit: EXIT.failed,
      });
    });
}

interface PolicyOptions extends ClientOptions {
  readonly bank: (typeof PCR_BANKS)[number];
  readonly pcrs: readonly number[];
  readonly value?: ReadonlyMap<string, string>;
  readonly out?: string;
}

function addPolicyDigest(host: Command): void {
  clientOptions(host.command('policy-digest').description('print what the authority signs to approve PCRs of the host'))
    .addOption(new Option('--bank <bank>', 'PCR bank').choices(PCR_BANKS).default('sha256'))
    .requiredOption('--pcrs <list>', 'PCRs, e.g. 0,2,7', pcrList)
    .option('--value <pcr=hex>', 'what a PCR will be, once for each; without: as they are now', pcrValue)
    .option('--out <file>', 'write the bytes to be signed to a file')
    .addHelpText(
      'after',
      '\nExamples:\n  tpmux host policy-digest --pcrs 0,2,7 --out policy.bin\n  openssl dgst -sha256 -sign authority.pem -out policy.sig policy.bin\n',
    )
    .action(async ({ bank, pcrs, value, out: file, ...options }: PolicyOptions) => {
      const { api, out, json } = await clientContext(options);
      const values = value === undefined ? {} : { values: Object.fromEntries(value) };
      const answer = await api.ask('policyDigest', { body: { bank, pcrs, ...values } });
      const { policy, toBeSigned } = answer;
      if (file !== undefined) await write(file, Buffer.from(toBeSigned, 'hex'));
      if (json) {
        out.json(answer);
        return;
      }
      out.line(`policy        ${policy}`);
      out.line(`to be signed  ${toBeSigned}`);
    });
}

function pcrList(value: string): number[] {
  if (!/^\d{1,2}(,\d{1,2})*$/.test(value)) throw new InvalidArgumentError('PCRs are numbers with commas between them.');
  const pcrs = value.split(',').map(Number);
  if (pcrs.some((pcr) => pcr > 23)) throw new InvalidArgumentError('PCRs go from 0 to 23.');
  return pcrs;
}

function pcrValue(value: string, earlier: ReadonlyMap<string, string> | undefined): ReadonlyMap<string, string> {
  const [, pcr, hex] = /^(\d{1,2})=(?:0x)?((?:[0-9a-fA-F]{2})+)$/.exec(value) ?? [];
  if (pcr === undefined || hex === undefined) throw new InvalidArgumentError('A value is PCR=HEX.');
  return new Map([...(earlier ?? []), [pcr, hex]]);
}

async function write(file: string, bytes: Buffer): Promise<void> {
  try {
    await writeFile(file, bytes);
  } catch (error) {
    throw new Failure({
      code: 'file',
      what: `writing ${file}`,
      why: reasonOf(error),
      hint: 'name a file that can be written',
      exit: EXIT.usage,
    });
  }
}
