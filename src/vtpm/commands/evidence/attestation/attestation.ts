// TPM 2.0 Library Part 3, 18: attestation commands.
import { TPM_RH, TPM_ST } from '../../../../tpm/constants/index.js';
import { isProviderExtraData } from '../../../../tpm/provider-quote.js';
import { TPM_RC } from '../../../../tpm/response-code.js';
import type { TPML_PCR_SELECTION, TPMT_SIG_SCHEME_PLUS, TPMT_SIGNATURE_PLUS } from '../../../../tpm/structures/index.js';
import { attest, clockInfo } from '../../../signing/attestation.js';
import type { Call } from '../../../dispatch/call.js';
import type { Handlers } from '../../../dispatch/handler.js';
import { FIRMWARE_VERSION } from '../../../vendor.js';
import { requireSigner, schemeHash } from '../../../signing/signing.js';
import { TPM_ALG } from '../../../../tpm/constants/index.js';
import { creationTicket, isTicketValid } from '../../../signing/tickets.js';
import type { Tpm } from '../../../tpm.js';

const nothing = Buffer.alloc(0);

/** Names of an object. Those of a sequence are empty. */
function namesOf<H extends string>(call: Call<H>, where: H): { readonly name: Buffer; readonly qualifiedName: Buffer } {
  return call.entity(where).kind === 'sequence' ? { name: nothing, qualifiedName: nothing } : call.object(where);
}

/** What a quote is about. */
interface QuoteRequest {
  readonly extraData: Buffer;
  readonly inScheme: TPMT_SIG_SCHEME_PLUS;
  readonly PCRselect: TPML_PCR_SELECTION;
  /** The provider whose value counts at a PCR index. */
  readonly vector: (index: number) => string;
}

/** Signs PCRs with the key at `signHandle`. `TPM_RC_SCHEME`, `TPM_RC_KEY`, placed. */
export async function quotePcrs(
  tpm: Tpm,
  call: Call<'signHandle', 'inScheme'>,
  { extraData, inScheme, PCRselect, vector }: QuoteRequest,
): Promise<{ quoted: Buffer; signature: TPMT_SIGNATURE_PLUS }> {
  const signer = requireSigner(call, 'signHandle', 'inScheme', inScheme);
  const hashAlg = schemeHash(signer.scheme);
  if (hashAlg === TPM_ALG.NULL) throw call.error(TPM_RC.SCHEME, 'inScheme');
  const quote = { pcrSelect: tpm.pcrs.filter(PCRselect), pcrDigest: tpm.pcrs.digestOf(PCRselect, hashAlg, vector) };
  const { attested, signature } = await attest(tpm, signer, extraData, { type: TPM_ST.ATTEST_QUOTE, attested: quote });
  return { quoted: attested, signature };
}

export const attestationHandlers = {
  /** 18.2 */
  Certify: async (tpm, { qualifyingData, inScheme }, call) => {
    const signer = requireSigner(call, 'signHandle', 'inScheme', inScheme);
    const { name, qualifiedName } = namesOf(call, 'objectHandle');
    const anonymous = signer.scheme.scheme === TPM_ALG.ECDAA;
    const certify = { name, qualifiedName: anonymous ? nothing : qualifiedName };
    const { attested, signature } = await attest(tpm, signer, qualifyingData, { type: TPM_ST.ATTEST_CERTIFY, attested: certify });
    return { certifyInfo: attested, signature };
  },

  /** 18.3 */
  CertifyCreation: async (tpm, { qualifyingData, creationHash, inScheme, creationTicket: given }, call) => {
    const signer = requireSigner(call, 'signHandle', 'inScheme', inScheme);
    const { name } = namesOf(call, 'objectHandle');
    if (!isTicketValid(creationTicket(tpm, given.hierarchy, name, creationHash), given)) throw call.error(TPM_RC.TICKET, 'creationTicket');
    const creation = { objectName: name, creationHash };
    const { attested, signature } = await attest(tpm, signer, qualifyingData, { type: TPM_ST.ATTEST_CREATION, attested: creation });
    return { certifyInfo: attested, signature };
  },

  /** 18.4. Qualifying data that looks like that of Vendor_Quote is refused: `TPM_RC_VALUE`. */
  Quote: (tpm, { qualifyingData, inScheme, PCRselect }, call) => {
    if (isProviderExtraData(qualifyingData)) throw call.error(TPM_RC.VALUE, 'qualifyingData');
    return quotePcrs(tpm, call, { extraData: qualifyingData, inScheme, PCRselect, vector: tpm.pcrs.attested });
  },

  /** 18.5 */
  GetSessionAuditDigest: async (tpm, { qualifyingData, inScheme }, call) => {
    const signer = requireSigner(call, 'signHandle', 'inScheme', inScheme);
    const { handle, auditDigest } = call.session('sessionHandle');
    if (auditDigest === undefined) throw call.error(TPM_RC.TYPE, 'sessionHandle');
    const exclusiveSession = tpm.sessions.exclusiveAudit === handle ? 1 : 0;
    const what = { type: TPM_ST.ATTEST_SESSION_AUDIT, attested: { exclusiveSession, sessionDigest: auditDigest } } as const;
    const { attested, signature } = await attest(tpm, signer, qualifyingData, what);
    return { auditInfo: attested, signature };
  },

  /** 18.6 */
  GetCommandAuditDigest: async (tpm, { signHandle, qualifyingData, inScheme }, call) => {
    const signer = requireSigner(call, 'signHandle', 'inScheme', inScheme);
    const { counter: auditCounter, alg: digestAlg, digest: auditDigest, commandDigest } = tpm.commandAudit;
    const attested = { auditCounter, digestAlg, auditDigest, commandDigest };
    const result = await attest(tpm, signer, qualifyingData, { type: TPM_ST.ATTEST_COMMAND_AUDIT, attested });
    if (signHandle !== TPM_RH.NULL) tpm.commandAudit.clearDigest();
    return { auditInfo: result.attested, signature: result.signature };
  },

  /** 18.7 */
  GetTime: async (tpm, { qualifyingData, inScheme }, call) => {
    const signer = requireSigner(call, 'signHandle', 'inScheme', inScheme);
    const time = { time: { time: tpm.clock.time, clockInfo: clockInfo(tpm) }, firmwareVersion: FIRMWARE_VERSION };
    const { attested, signature } = await attest(tpm, signer, qualifyingData, { type: TPM_ST.ATTEST_TIME, attested: time });
    return { timeInfo: attested, signature };
  },
} satisfies Partial<Handlers>;
