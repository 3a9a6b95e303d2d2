// The remote verifier: from a quote, a log and statements to the properties that a guest has shown. It needs no TPM and no daemon.
import { isProviderExtraData, providerExtraData } from '../tpm/provider-quote.js';
import { BUILT_IN_PROVIDERS } from '../config/names.js';
import type { Property } from '../statements/property-set.js';
import type { Properties } from '../statements/properties.js';
import { parseEvidence, type Evidence } from './evidence.js';
import { Appraiser, type AppraisedBank, type ShownMeasurement } from './appraise.js';
import { checkQuoteSignature, quotedBanks, readAttestationKey, readQuote, type Quote } from './quote.js';
import { beginsAtReset, replay } from './replay.js';
import { EvidenceStatements, type VerifierTrust } from './statements.js';
import { VerificationError } from './verification-error.js';

/** Providers in whose vectors everything stands for itself, so that a guest gains nothing by claiming one of them. */
const PLAIN_PROVIDERS: ReadonlySet<string> = new Set(['digest', 'log']);

/** A property that must be shown: anywhere or by a PCR, with any value or a certain one. */
export interface RequiredProperty {
  readonly pcr?: number | undefined;
  readonly name: string;
  readonly value?: Properties[string] | undefined;
}

/** What a verifier has. */
export interface Attestation extends VerifierTrust {
  /** `TPMS_ATTEST`, as `tpm2_quote -m` writes it. */
  readonly quote: Buffer;
  /** `TPMT_SIGNATURE` (`tpm2_quote -s`), or the bare signature. */
  readonly signature: Buffer;
  /** `TPM2B_PUBLIC`, or a public key in PEM or DER. */
  readonly key: Buffer;
  readonly nonce: Buffer;
  /** The text of the evidence. */
  readonly evidence: string;
  /** PCRs that are appraised; default all that were quoted. */
  readonly pcrs?: readonly number[] | undefined;
  /** The provider whose vector it must be; default the one that the evidence names. */
  readonly provider?: string | undefined;
  /** Refuse a quote that does not say itself which provider's vector it is of. */
  readonly mustNameProvider?: boolean | undefined;
  /**
   * Believe evidence about whose vector such a quote is of: of the guest whose key this is, it is known that its policy attests by
   * that vector. Without it only vectors count in which everything stands for itself.
   */
  readonly trustGuestPolicy?: boolean | undefined;
  readonly required: readonly RequiredProperty[];
}

/** What was shown. */
export interface Verification {
  readonly pcrs: readonly { readonly pcr: number; readonly provider: string }[];
  /** Banks that were appraised. */
  readonly banks: readonly string[];
  /** Whether the quote says whose vector it is of (Vendor_Quote). If not, that is known from the guest's policy alone. */
  readonly namesProvider: boolean;
  /** Whether the key's attributes were seen, so that nothing but a TPM's structures can be signed with it. */
  readonly keyIsRestricted: boolean;
  readonly measurements: readonly ShownMeasurement[];
  /** How many entries about the PCRs that were quoted came after the quote. */
  readonly later: number;
  /** Clock of the TPM in milliseconds, and its counters of resets and restarts, as quoted. */
  readonly clock: { readonly clock: string; readonly resetCount: number; readonly restartCount: number; readonly safe: boolean };
}

/**
 * Verifies an attestation. Rejects with {@link VerificationError}, whose reason says what is wrong; what comes first of: key, quote, signature,
 * nonce, form of the evidence, vector, PCRs, log, statements, required properties.
 */
export async function verifyAttestation(given: Attestation): Promise<Verification> {
  const key = readAttestationKey(given.key);
  const quote = readQuote(given.quote);
  checkQuoteSignature(key, given.quote, quote, given.signature);
  const bound = isProviderExtraData(quote.extraData);
  if (!bound && !quote.extraData.equals(given.nonce)) {
    throw new VerificationError('wrong_nonce', 'the quote is for another nonce: it is old, or was made for somebody else');
  }
  const evidence = parseEvidence(given.evidence);
  const { pcrs, banks } = appraisedPcrs(quote, given.pcrs);
  const vectors = pcrs.map((pcr) => ({ pcr, provider: providerOf(evidence, pcr) }));
  if (bound) requireNamed(quote, evidence, given.nonce);
  requireVector(vectors, bound, given);
  const { entries, later } = replay(evidence, quote);
  requireComplete(evidence, pcrs);
  const statements = await EvidenceStatements.open(evidence.statements, given);
  const appraiser = new Appraiser(evidence, banks, statements);
  const measurements: ShownMeasurement[] = [];
  for (const entry of entries) {
    const vector = vectors.find(({ pcr }) => pcr === entry.pcr);
    if (vector === undefined) continue;
    const ofBanks: ShownMeasurement[] = [];
    for (const bank of banks.filter((one) => one.pcrs.includes(entry.pcr))) {
      const shown = await appraiser.appraise(entry, vector.provider, bank);
      if (shown !== undefined) ofBanks.push(shown);
    }
    const merged = mergeBanks(ofBanks);
    if (merged !== undefined) measurements.push(merged);
  }
  if (measurements.length === 0) throw new VerificationError('nothing_measured', 'nothing was measured into the PCRs that were quoted');
  for (const one of given.required) requireProperty(measurements, one);
  return {
    pcrs: vectors,
    banks: banks.map(({ name }) => name),
    namesProvider: bound,
    keyIsRestricted: key.described,
    measurements,
    later,
    clock: { ...quote.clockInfo, clock: quote.clockInfo.clock.toString(), safe: quote.clockInfo.safe !== 0 },
  };
}

/** The PCRs that are appraised, and the banks with the PCRs that the quote has in them. SHA-1 is folded, but shows nothing. */
function appraisedPcrs(
  quote: Quote,
  wanted: readonly number[] | undefined,
): { pcrs: number[]; banks: (AppraisedBank & { pcrs: readonly number[] })[] } {
  const banks = quotedBanks(quote)
    .filter(({ name, pcrs }) => name !== 'sha1' && pcrs.length > 0)
    .map(({ bank, name, pcrs }) => ({ bank, name, pcrs }));
  const quoted = new Set(banks.flatMap(({ pcrs }) => pcrs));
  const missing = wanted?.find((pcr) => !quoted.has(pcr));
  if (missing !== undefined) throw new VerificationError('pcrs_not_covered', `the quote does not cover PCR ${missing.toString()}`);
  if (quoted.size === 0) throw new VerificationError('pcrs_not_covered', 'the quote covers no PCR in a bank other than SHA-1');
  const pcrs = [...new Set(wanted ?? quoted)].sort((a, b) => a - b);
  return { pcrs, banks };
}

function providerOf({ pcrs }: Evidence, pcr: number): string {
  const found = pcrs.filter((one) => one.pcr === pcr);
  const [only] = found;
  if (only !== undefined && found.length === 1) return only.provider;
  throw new VerificationError(
    'pcrs_not_covered',
    `the evidence says ${only === undefined ? 'nothing' : 'two things'} about PCR ${pcr.toString()}`,
  );
}

/** A quote of Vendor_Quote is of one provider's vector, over this nonce. */
function requireNamed(quote: Quote, { pcrs }: Evidence, nonce: Buffer): void {
  const names = [...new Set([...pcrs.map(({ provider }) => provider), ...BUILT_IN_PROVIDERS])];
  const named = names.find((name) => providerExtraData(name, nonce).equals(quote.extraData));
  if (named === undefined) {
    throw new VerificationError(
      'wrong_nonce',
      'the quote is for another nonce, or of the vector of a provider that the evidence does not name',
    );
  }
  const quoted = new Set(quotedBanks(quote).flatMap((bank) => bank.pcrs));
  const other = pcrs.find(({ pcr, provider }) => quoted.has(pcr) && provider !== named);
  if (other === undefined) return;
  throw new VerificationError(
    'other_vector',
    `the quote is of the vector of ${named}, the evidence of PCR ${other.pcr.toString()} of that of ${other.provider}`,
  );
}

function requireVector(
  vectors: readonly { readonly pcr: number; readonly provider: string }[],
  bound: boolean,
  { provider, mustNameProvider, trustGuestPolicy }: Attestation,
): void {
  if (mustNameProvider === true && !bound) throw new VerificationError('other_vector', 'the quote does not say whose vector it is of');
  const claimed = vectors.find((one) => !PLAIN_PROVIDERS.has(one.provider));
  if (!bound && claimed !== undefined && trustGuestPolicy !== true) {
    throw new VerificationError(
      'vector_not_named',
      `the quote does not say that PCR ${claimed.pcr.toString()} is of the vector of ${claimed.provider}, which any guest could claim`,
    );
  }
  const other = vectors.find((one) => provider !== undefined && one.provider !== provider);
  if (other === undefined) return;
  throw new VerificationError(
    'other_vector',
    `PCR ${other.pcr.toString()} is of the vector of ${other.provider}, not of ${provider ?? ''}`,
  );
}

function requireComplete({ pcrs }: Evidence, appraised: readonly number[]): void {
  const cut = pcrs.find((one) => appraised.includes(one.pcr) && !beginsAtReset(one));
  if (cut === undefined) return;
  throw new VerificationError('log_incomplete', `the log of PCR ${cut.pcr.toString()} lacks what was measured first`);
}

/** One measurement of several banks: what all of them show. */
function mergeBanks(shown: readonly ShownMeasurement[]): ShownMeasurement | undefined {
  const [first, ...others] = shown;
  if (first === undefined) return undefined;
  const measured = Object.assign({}, ...shown.map((one) => one.measured)) as Record<string, string>;
  const inAll = (property: Property): boolean =>
    others.every(({ properties }) => properties.some(({ name, value }) => name === property.name && value === property.value));
  return { ...first, measured, properties: first.properties.filter(inAll) };
}

function requireProperty(measurements: readonly ShownMeasurement[], { pcr, name, value }: RequiredProperty): void {
  const found = measurements
    .filter((one) => pcr === undefined || one.pcr === pcr)
    .some(({ properties }) => properties.some((one) => one.name === name && (value === undefined || one.value === value)));
  if (found) return;
  const what = `${name}${value === undefined ? '' : `=${value.toString()}`}`;
  throw new VerificationError('missing_property', `property ${what} is not shown${pcr === undefined ? '' : ` by PCR ${pcr.toString()}`}`);
}
