// tpmux-guest: the command line inside an aware guest. It needs no daemon, only the guest's TPM.
import { writeFile } from 'node:fs/promises';
import { Command, InvalidArgumentError } from 'commander';
import { EXIT, Failure, reasonOf } from '../../failure.js';
import { AwareGuest, type PcrChoice } from '../../guest-client/aware-guest.js';
import { TctiError } from '../../native/index.js';
import { formatPcrList, parsePcrList } from '../../policy/pcr-list.js';
import { TPM_ALG } from '../../tpm/constants/index.js';
import { hashName } from '../../tpm/hash.js';
import { TPM_RC } from '../../tpm/response-code.js';
import { CommandRefused } from '../../tpm/response-error.js';
import { standardOutput, table } from '../output.js';

/** The part of a code of TSS2_RC that is the TPM's or stands for it. */
const RESPONSE_CODE = 0xffff;
const DEFAULT_TCTI = 'device:/dev/tpmrm0';
const BANKS = { sha1: TPM_ALG.SHA1, sha256: TPM_ALG.SHA256, sha384: TPM_ALG.SHA384, sha512: TPM_ALG.SHA512 } as const;

interface GuestOptions {
  readonly tcti?: string;
  readonly json?: boolean;
}

interface VectorOptions extends GuestOptions {
  readonly provider: string;
  readonly pcrs: readonly PcrChoice[];
}

/** The whole command line of `tpmux-guest`. */
export function createGuestProgram(version: string): Command {
  const program = new Command('tpmux-guest')
    .description('Uses the property providers of the tpmux guest that it runs in.')
    .version(version, '--version', 'print the version')
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .showHelpAfterError(false)
    .addHelpText(
      'after',
      "\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the TPM, 4 the TPM can't be reached, 5 the TPM is none of tpmux.\n",
    );
  addProviders(program);
  addPcrRead(program);
  addPolicyPcr(program);
  addUnseal(program);
  addQuote(program);
  return program;
}

function guestOptions(command: Command): Command {
  return command
    .option('--tcti <conf>', `how to reach the TPM (default: TPM2TOOLS_TCTI, ${DEFAULT_TCTI})`)
    .option('--json', 'print one JSON document')
    .option('--debug', 'print a stack trace with an error');
}

function vectorOptions(command: Command): Command {
  return guestOptions(command)
    .requiredOption('--provider <name>', 'the provider whose vector is meant')
    .requiredOption('--pcrs <bank:list>', 'PCRs, e.g. sha256:0-7,14+sha384:4', pcrsOption);
}

function addProviders(program: Command): void {
  guestOptions(program.command('providers').description('list the property providers, and where the guest sees their vectors')).action(
    async (options: GuestOptions) => {
      const providers = await withTpm(options, 'listing the providers', (tpm) => tpm.providers());
      if (options.json === true) {
        standardOutput.json({ providers });
        return;
      }
      const rows = providers.map(({ name, presented, attested }) => [name, formatPcrList(presented), formatPcrList(attested)]);
      for (const line of table(['PROVIDER', 'PRESENTED', 'QUOTED'], rows)) standardOutput.line(line);
    },
  );
}

function addPcrRead(program: Command): void {
  vectorOptions(program.command('pcr-read').description("read PCRs of one provider's vector"))
    .addHelpText('after', '\nExample:\n  tpmux-guest pcr-read --provider certified --pcrs sha256:0-7\n')
    .action(async ({ provider, pcrs, ...options }: VectorOptions) => {
      const values = await withTpm(options, `reading the vector of ${provider}`, (tpm) => tpm.readVector(provider, pcrs));
      const banks: Record<string, Record<string, string>> = {};
      for (const { bank, pcr, value } of values) (banks[hashName(bank)] ??= {})[pcr] = value.toString('hex');
      if (options.json === true) standardOutput.json({ provider, banks });
      else
        for (const { bank, pcr, value } of values)
          standardOutput.line(`${hashName(bank)}:${pcr.toString().padEnd(2)}  ${value.toString('hex')}`);
    });
}

function addPolicyPcr(program: Command): void {
  vectorOptions(program.command('policy-pcr').description("make a policy that asks for the present PCRs of one provider's vector"))
    .option('--out <file>', 'write the policy digest there, as tpm2_create -L takes it')
    .addHelpText('after', '\nExample:\n  tpmux-guest policy-pcr --provider digest --pcrs sha256:4,7 --out policy.digest\n')
    .action(async ({ provider, pcrs, out, ...options }: VectorOptions & { out?: string }) => {
      const digest = await withTpm(options, `a policy about the vector of ${provider}`, (tpm) => tpm.policyDigest(provider, pcrs));
      if (out !== undefined) await write(out, digest);
      if (options.json === true) standardOutput.json({ provider, policyDigest: digest.toString('hex') });
      else if (out === undefined) standardOutput.line(digest.toString('hex'));
    });
}

function addUnseal(program: Command): void {
  vectorOptions(program.command('unseal').description('unseal a persistent object with a policy of policy-pcr'))
    .requiredOption('--object <handle>', 'its handle, e.g. 0x81000001', handleOption)
    .option('--out <file>', 'write the secret there instead of to standard output')
    .addHelpText('after', '\nExample:\n  tpmux-guest unseal --object 0x81000001 --provider digest --pcrs sha256:4,7\n')
    .action(async ({ provider, pcrs, object, out, ...options }: VectorOptions & { object: number; out?: string }) => {
      const secret = await withTpm(options, 'unsealing', (tpm) => tpm.unseal(object, provider, pcrs));
      if (out !== undefined) await write(out, secret);
      if (options.json === true) standardOutput.json({ provider, ...(out === undefined && { secret: secret.toString('base64') }) });
      else if (out === undefined) process.stdout.write(secret);
    });
}

interface QuoteOptions extends VectorOptions {
  readonly key: number;
  readonly auth?: string;
  readonly nonce: Buffer;
  readonly message: string;
  readonly signature: string;
  readonly public?: string;
}

function addQuote(program: Command): void {
  vectorOptions(program.command('quote').description("quote PCRs of one provider's vector; the quote says which"))
    .requiredOption('--key <handle>', 'persistent attestation key, e.g. 0x81010002', handleOption)
    .option('--auth <text>', "the key's authorization value")
    .requiredOption('--nonce <hex>', 'what the verifier gave', hexOption)
    .requiredOption('--message <file>', 'write the quote there')
    .requiredOption('--signature <file>', 'write its signature there')
    .option('--public <file>', "write the key's TPM2B_PUBLIC there")
    .addHelpText(
      'after',
      '\nExample:\n  tpmux-guest quote --key 0x81010002 --provider digest --pcrs sha256:0-7 --nonce 0011 --message q.msg --signature q.sig\n',
    )
    .action(async ({ provider, pcrs, key, auth, nonce, message, signature, public: publicFile, ...options }: QuoteOptions) => {
      const made = await withTpm(options, `quoting the vector of ${provider}`, async (tpm) => ({
        quote: await tpm.quote(key, provider, pcrs, nonce, Buffer.from(auth ?? '')),
        publicArea: publicFile === undefined ? undefined : (await tpm.readPublic(key)).bytes,
      }));
      await write(message, made.quote.message);
      await write(signature, made.quote.signature);
      if (publicFile !== undefined && made.publicArea !== undefined) await write(publicFile, made.publicArea);
      if (options.json === true)
        standardOutput.json({ provider, quoted: made.quote.message.toString('hex'), signature: made.quote.signature.toString('hex') });
    });
}

/** Runs something with the guest's TPM. Rejects with a {@link Failure}. */
async function withTpm<T>({ tcti }: GuestOptions, what: string, run: (tpm: AwareGuest) => Promise<T>): Promise<T> {
  const configuration = tcti ?? process.env['TPM2TOOLS_TCTI'] ?? DEFAULT_TCTI;
  let tpm: AwareGuest | undefined;
  try {
    tpm = await AwareGuest.open(configuration);
    return await run(tpm);
  } catch (error) {
    throw failureOf(what, error);
  } finally {
    await tpm?.close();
  }
}

function failureOf(what: string, error: unknown): unknown {
  if (error instanceof TctiError) {
    const hint = 'name the TPM with --tcti, for example device:/dev/tpmrm0';
    return new Failure({ code: 'unreachable', what, why: error.message, hint, exit: EXIT.unreachable }, { cause: error });
  }
  if (!(error instanceof CommandRefused)) return error;
  const isForeign = (error.code & RESPONSE_CODE) === TPM_RC.COMMAND_CODE;
  const why = isForeign ? 'the TPM knows no property providers' : error.message;
  const hint = isForeign ? 'this needs a guest of tpmux' : "'tpmux-guest providers' lists what there is";
  return new Failure({ code: 'refused', what, why, hint, exit: isForeign ? EXIT.unsupported : EXIT.refused }, { cause: error });
}

async function write(path: string, bytes: Buffer): Promise<void> {
  await writeFile(path, bytes, { mode: 0o600 }).catch((error: unknown) => {
    throw new Failure(
      { code: 'not_written', what: `writing ${path}`, why: reasonOf(error), hint: '', exit: EXIT.failed },
      { cause: error },
    );
  });
}

/** `BANK:LIST[+BANK:LIST…]`, as tpm2-tools write PCR selections, and with ranges. */
function pcrsOption(text: string): readonly PcrChoice[] {
  return text.split('+').map((part) => {
    const [name = '', list = ''] = part.split(':', 2);
    const bank = Object.hasOwn(BANKS, name) ? BANKS[name as keyof typeof BANKS] : undefined;
    const pcrs = parsePcrList(list);
    if (bank === undefined || pcrs === undefined) throw new InvalidArgumentError('Expected PCRs such as sha256:0-7,14.');
    return { bank, pcrs };
  });
}

function handleOption(text: string): number {
  const handle = Number(text);
  if (!/^0x[0-9a-fA-F]{8}$/.test(text)) throw new InvalidArgumentError('Expected a handle such as 0x81010002.');
  return handle;
}

function hexOption(text: string): Buffer {
  if (!/^([0-9a-fA-F]{2}){0,66}$/.test(text)) throw new InvalidArgumentError('Expected at most 66 bytes in hexadecimal.');
  return Buffer.from(text, 'hex');
}
