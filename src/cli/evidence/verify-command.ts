// tpmux verify: needs no daemon and no TPM.
import { InvalidArgumentError, type Command } from 'commander';
import { VerificationError } from '../../verifier/verification-error.js';
import { verifyAttestation, type Attestation, type RequiredProperty, type Verification } from '../../verifier/verify.js';
import type { VerifierRoot } from '../../verifier/statements.js';
import { EXIT, Failure } from '../../failure.js';
import { parsePcrList } from '../../policy/pcr-list.js';
import { readPublicKey } from '../../statements/signing-keys.js';
import { standardOutput, table } from '../output.js';
import { collect, naming, propertyOption, readBytes, readText, timeOption } from '../property/files.js';

interface VerifyOptions {
  readonly quote: string;
  readonly signature: string;
  readonly ak: string;
  readonly nonce: Buffer;
  readonly evidence: string;
  readonly trust: readonly string[];
  readonly revoked?: readonly string[];
  readonly at?: Date;
  readonly pcrs?: readonly number[];
  readonly provider?: string;
  readonly named?: boolean;
  readonly trustGuestPolicy?: boolean;
  readonly require?: readonly RequiredProperty[];
  readonly json?: boolean;
}

const EXAMPLES = `
--trust takes [ISSUER=]FILE[#PATTERN,...]: a public key in PEM, whose statements must name ISSUER if it is given, and the properties that
it may state (default all). --require takes [PCR:]NAME[=VALUE].

Examples:
  tpmux verify --quote quote.msg --signature quote.sig --ak ak.pub --nonce 0011... --evidence web1.evidence \\
    --trust 'build@example.org=build.pem#os.*,tpm.*' --revoked build-revoked.json --named --require os.level=3
`;

/** Adds `verify`. */
export function addVerifyCommand(program: Command): void {
  program
    .command('verify')
    .description("check a guest's quote, log and statements, and print the properties that they show; needs no daemon and no TPM")
    .requiredOption('--quote <file>', 'the quote (tpm2_quote -m)')
    .requiredOption('--signature <file>', 'its signature (tpm2_quote -s)')
    .requiredOption('--ak <file>', 'the attestation key: TPM2B_PUBLIC (tpm2_readpublic -o), or PEM')
    .requiredOption('--nonce <hex>', 'what the verifier gave to the guest (tpm2_quote -q)', hexOption)
    .requiredOption('--evidence <file>', "what 'tpmux evidence' wrote")
    .requiredOption('--trust <key...>', 'public keys of issuers', collect)
    .option('--revoked <file...>', 'signed revocation lists of issuers', collect)
    .option('--at <time>', 'the time at which statements must be valid (default: now)', timeOption)
    .option('--pcrs <list>', 'PCRs that are appraised, e.g. 0-7,14 (default: all that were quoted)', pcrsOption)
    .option('--provider <name>', 'the provider whose vector it must be')
    .option('--named', 'accept only a quote that says itself whose vector it is of (tpmux-guest quote)')
    .option('--trust-guest-policy', "believe whose vector a plain quote is of: the guest's policy is known to attest by it")
    .option('--require <property...>', 'a property that must be shown', requireOption)
    .option('--json', 'print one JSON document, also when it is refused')
    .option('--debug', 'print a stack trace with an error')
    .addHelpText('after', EXAMPLES)
    .action(async (options: VerifyOptions) => {
      const attestation = await attestationOf(options);
      let verification: Verification;
      try {
        verification = await verifyAttestation(attestation);
      } catch (error) {
        if (!(error instanceof VerificationError)) throw error;
        if (options.json === true) standardOutput.json({ accepted: false, reason: error.reason, why: error.message });
        throw refused(error);
      }
      if (options.json === true) standardOutput.json({ accepted: true, ...verification });
      else print(verification, options);
    });
}

const UNNAMED =
  "quote with 'tpmux-guest quote', or give --trust-guest-policy if you know from the host that this guest's policy attests by that vector";

function refused(error: VerificationError): Failure {
  const hint = `reason: ${error.reason}${error.reason === 'vector_not_named' ? `; ${UNNAMED}` : ''}`;
  return new Failure({ code: error.reason, what: 'verifying the quote', why: error.message, hint, exit: EXIT.refused }, { cause: error });
}

async function attestationOf(options: VerifyOptions): Promise<Attestation> {
  const { quote, signature, ak, nonce, evidence, trust, revoked = [], at = new Date(), require = [] } = options;
  const { pcrs, provider, named, trustGuestPolicy } = options;
  return {
    quote: await readBytes(quote),
    signature: await readBytes(signature),
    key: await readBytes(ak),
    nonce,
    evidence: await readText(evidence),
    roots: await Promise.all(trust.map(rootOf)),
    revocations: await Promise.all(revoked.map(readText)),
    time: at.getTime(),
    pcrs,
    provider,
    mustNameProvider: named,
    trustGuestPolicy,
    required: require,
  };
}

async function rootOf(text: string): Promise<VerifierRoot> {
  const { issuer, path = text, allowed } = /^(?:(?<issuer>[^=/]+)=)?(?<path>[^#]+)(?:#(?<allowed>.+))?$/.exec(text)?.groups ?? {};
  const pem = await readBytes(path);
  return { issuer, key: naming(`reading the key ${path}`, () => readPublicKey(pem)), allowed: allowed?.split(',') ?? ['*'] };
}

function print({ pcrs, banks, namesProvider, keyIsRestricted, measurements, later }: Verification, { revoked = [] }: VerifyOptions): void {
  const providers = [...new Set(pcrs.map(({ provider }) => provider))].join(', ');
  standardOutput.line(`accepted: PCRs ${pcrs.map(({ pcr }) => pcr).join(',')} of ${banks.join(', ')}, vector ${providers}`);
  if (!namesProvider) standardOutput.line("note: that it is this vector is known from the guest's policy; the quote does not say so");
  if (!keyIsRestricted) standardOutput.line('note: of a key in PEM nobody can tell whether it signs quotes alone; give its TPM2B_PUBLIC');
  if (revoked.length === 0) standardOutput.line('note: revocation was not checked');
  if (later > 0) standardOutput.line(`note: ${later.toString()} entries of the log came after the quote`);
  const rows = measurements.flatMap(({ pcr, entry, properties, statements }) =>
    properties.map(({ name, value }) => [
      pcr,
      entry,
      `${name}=${value.toString()}`,
      [...new Set(statements.map(({ issuer }) => issuer))].join(', '),
    ]),
  );
  for (const line of table(['PCR', 'ENTRY', 'PROPERTY', 'STATED BY'], rows)) standardOutput.line(line);
}

function hexOption(text: string): Buffer {
  if (!/^([0-9a-fA-F]{2})*$/.test(text)) throw new InvalidArgumentError('Expected hexadecimal.');
  return Buffer.from(text, 'hex');
}

function pcrsOption(text: string): number[] {
  const pcrs = parsePcrList(text);
  if (pcrs === undefined) throw new InvalidArgumentError('Expected PCRs such as 0-7,14.');
  return pcrs;
}

function requireOption(text: string, earlier: readonly RequiredProperty[] = []): readonly RequiredProperty[] {
  const { pcr, rest = '' } = /^(?:(?<pcr>\d{1,2}):)?(?<rest>.+)$/s.exec(text)?.groups ?? {};
  const [name, value] = Object.entries(propertyOption(rest))[0] ?? [];
  if (name === undefined) throw new InvalidArgumentError('Expected [PCR:]NAME[=VALUE].');
  return [...earlier, { name, value: rest.includes('=') ? value : undefined, pcr: pcr === undefined ? undefined : Number(pcr) }];
}
