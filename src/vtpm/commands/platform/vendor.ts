// Vendor commands for aware guests, docs/aware-guests.md: the matrix of PCRs, provider by provider.
import { type Vendor_ListProviders, Vendor_PolicyPCR, type Vendor_Quote, type Vendor_ReadVector } from '../../../tpm/commands/index.js';
import { MAX_PROVIDER_LIST } from '../../../tpm/constants/index.js';
import { providerExtraData } from '../../../tpm/provider-quote.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import { page } from '../../capabilities/page.js';
import { bitmapWhere } from '../../capabilities/pcr-properties.js';
import type { Call } from '../../dispatch/call.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';
import { extendPolicy } from '../../policy/policy-update.js';
import type { Tpm } from '../../tpm.js';
import { quotePcrs } from '../evidence/attestation/attestation.js';
import { assertPcrs } from '../authorization/enhanced-authorization/state.js';
import { readPcrs } from '../evidence/integrity.js';

/** The provider that parameter `provider` names. `TPM_RC_VALUE`, placed, if there is none. */
function requireProvider({ pcrs }: Tpm, name: Buffer, call: Call<never, 'provider'>): string {
  const found = pcrs.providerNames.find((one) => name.equals(Buffer.from(one, 'ascii')));
  if (found === undefined) throw call.error(TPM_RC.VALUE, 'provider');
  return found;
}

/** V.1 */
const listProviders: Handler<typeof Vendor_ListProviders> = ({ pcrs }, { first, count }) => {
  const { items, moreData } = page(pcrs.providerNames.slice(first), count, MAX_PROVIDER_LIST);
  const providers = items.map((name) => ({
    name: Buffer.from(name, 'ascii'),
    presented: bitmapWhere(pcrs, (index) => pcrs.presented(index) === name),
    attested: bitmapWhere(pcrs, (index) => pcrs.attested(index) === name),
  }));
  return { moreData, providers };
};

/** V.2 */
const readVector: Handler<typeof Vendor_ReadVector> = (tpm, { provider, pcrSelectionIn }, call) =>
  readPcrs(tpm, pcrSelectionIn, requireProvider(tpm, provider, call));

/** V.3. The digest names the provider, so no other vector, and no PolicyPCR, can stand for it. */
const policyPcr: Handler<typeof Vendor_PolicyPCR> = (tpm, { provider, pcrDigest, pcrs }, call) => {
  const name = requireProvider(tpm, provider, call);
  const asserted = assertPcrs(tpm, call, { pcrDigest, pcrs, vector: () => name });
  extendPolicy(call.session('policySession'), Vendor_PolicyPCR, { provider, ...asserted });
};

/** V.4 */
const quoteProvider: Handler<typeof Vendor_Quote> = (tpm, { provider, qualifyingData, inScheme, PCRselect }, call) => {
  const name = requireProvider(tpm, provider, call);
  return quotePcrs(tpm, call, { extraData: providerExtraData(name, qualifyingData), inScheme, PCRselect, vector: () => name });
};

export const vendorHandlers = {
  Vendor_ListProviders: listProviders,
  Vendor_ReadVector: readVector,
  Vendor_PolicyPCR: policyPcr,
  Vendor_Quote: quoteProvider,
} satisfies Partial<Handlers>;
