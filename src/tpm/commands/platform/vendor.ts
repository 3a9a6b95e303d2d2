// TPM 2.0 Library Part 3, 34 (vendor-specific commands), and this vendor's own: sections `V.n` are those of docs/aware-guests.md.
import { command, noAuth, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint32 } from '../../schema.js';
import {
  TPM2B_ATTEST,
  TPM2B_DATA,
  TPM2B_DIGEST,
  TPM2B_PROVIDER,
  TPMI_DH_OBJECT_PLUS,
  TPMI_SH_POLICY,
  TPMI_YES_NO,
  TPML_DIGEST,
  TPML_PCR_SELECTION,
  TPML_PROVIDER,
  TPMT_SIGNATURE_PLUS,
  TPMT_SIG_SCHEME_PLUS,
} from '../../structures/index.js';

export const Vendor_TCG_Test = command(TPM_CC.Vendor_TCG_Test, 'Vendor_TCG_Test', {
  section: '34.2',
  in: { inputData: TPM2B_DATA },
  out: { outputData: TPM2B_DATA },
});

/** The property providers from number `first` on, at most `count`. */
export const Vendor_ListProviders = command(TPM_CC.Vendor_ListProviders, 'Vendor_ListProviders', {
  section: 'V.1',
  in: { first: uint32, count: uint32 },
  out: { moreData: TPMI_YES_NO, providers: TPML_PROVIDER },
});

/** As `PCR_Read`, of one provider's vector. */
export const Vendor_ReadVector = command(TPM_CC.Vendor_ReadVector, 'Vendor_ReadVector', {
  section: 'V.2',
  in: { provider: TPM2B_PROVIDER, pcrSelectionIn: TPML_PCR_SELECTION },
  out: { pcrUpdateCounter: uint32, pcrSelectionOut: TPML_PCR_SELECTION, pcrValues: TPML_DIGEST },
});

/** As `PolicyPCR`, about one provider's vector, which the policy digest names. */
export const Vendor_PolicyPCR = command(TPM_CC.Vendor_PolicyPCR, 'Vendor_PolicyPCR', {
  section: 'V.3',
  handles: { policySession: noAuth(TPMI_SH_POLICY) },
  in: { provider: TPM2B_PROVIDER, pcrDigest: TPM2B_DIGEST, pcrs: TPML_PCR_SELECTION },
});

/** As `Quote`, of one provider's vector, which `extraData` names. */
export const Vendor_Quote = command(TPM_CC.Vendor_Quote, 'Vendor_Quote', {
  section: 'V.4',
  handles: { signHandle: user(TPMI_DH_OBJECT_PLUS) },
  in: { provider: TPM2B_PROVIDER, qualifyingData: TPM2B_DATA, inScheme: TPMT_SIG_SCHEME_PLUS, PCRselect: TPML_PCR_SELECTION },
  out: { quoted: TPM2B_ATTEST, signature: TPMT_SIGNATURE_PLUS },
});
