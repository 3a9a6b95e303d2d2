// TPM 2.0 Library Part 3, 18: attestation commands. A `signHandle` of `NULL` gives a signature of `NULL`.
import { admin, command, noAuth, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import {
  TPM2B_ATTEST,
  TPM2B_DATA,
  TPM2B_DIGEST,
  TPM2B_MAX_BUFFER,
  TPMI_DH_OBJECT,
  TPMI_DH_OBJECT_PLUS,
  TPMI_RH_ENDORSEMENT,
  TPMI_SH_HMAC,
  TPML_PCR_SELECTION,
  TPMT_SIGNATURE_PLUS,
  TPMT_SIG_SCHEME_PLUS,
  TPMT_TK_CREATION,
} from '../../structures/index.js';

export const Certify = command(TPM_CC.Certify, 'Certify', {
  section: '18.2',
  handles: { objectHandle: admin(TPMI_DH_OBJECT), signHandle: user(TPMI_DH_OBJECT_PLUS) },
  in: { qualifyingData: TPM2B_DATA, inScheme: TPMT_SIG_SCHEME_PLUS },
  out: { certifyInfo: TPM2B_ATTEST, signature: TPMT_SIGNATURE_PLUS },
});

export const CertifyCreation = command(TPM_CC.CertifyCreation, 'CertifyCreation', {
  section: '18.3',
  handles: { signHandle: user(TPMI_DH_OBJECT_PLUS), objectHandle: noAuth(TPMI_DH_OBJECT) },
  in: { qualifyingData: TPM2B_DATA, creationHash: TPM2B_DIGEST, inScheme: TPMT_SIG_SCHEME_PLUS, creationTicket: TPMT_TK_CREATION },
  out: { certifyInfo: TPM2B_ATTEST, signature: TPMT_SIGNATURE_PLUS },
});

export const Quote = command(TPM_CC.Quote, 'Quote', {
  section: '18.4',
  handles: { signHandle: user(TPMI_DH_OBJECT_PLUS) },
  in: { qualifyingData: TPM2B_DATA, inScheme: TPMT_SIG_SCHEME_PLUS, PCRselect: TPML_PCR_SELECTION },
  out: { quoted: TPM2B_ATTEST, signature: TPMT_SIGNATURE_PLUS },
});

export const GetSessionAuditDigest = command(TPM_CC.GetSessionAuditDigest, 'GetSessionAuditDigest', {
  section: '18.5',
  handles: { privacyAdminHandle: user(TPMI_RH_ENDORSEMENT), signHandle: user(TPMI_DH_OBJECT_PLUS), sessionHandle: noAuth(TPMI_SH_HMAC) },
  in: { qualifyingData: TPM2B_DATA, inScheme: TPMT_SIG_SCHEME_PLUS },
  out: { auditInfo: TPM2B_ATTEST, signature: TPMT_SIGNATURE_PLUS },
});

export const GetCommandAuditDigest = command(TPM_CC.GetCommandAuditDigest, 'GetCommandAuditDigest', {
  section: '18.6',
  handles: { privacyHandle: user(TPMI_RH_ENDORSEMENT), signHandle: user(TPMI_DH_OBJECT_PLUS) },
  in: { qualifyingData: TPM2B_DATA, inScheme: TPMT_SIG_SCHEME_PLUS },
  out: { auditInfo: TPM2B_ATTEST, signature: TPMT_SIGNATURE_PLUS },
  nv: true,
});

export const GetTime = command(TPM_CC.GetTime, 'GetTime', {
  section: '18.7',
  handles: { privacyAdminHandle: user(TPMI_RH_ENDORSEMENT), signHandle: user(TPMI_DH_OBJECT_PLUS) },
  in: { qualifyingData: TPM2B_DATA, inScheme: TPMT_SIG_SCHEME_PLUS },
  out: { timeInfo: TPM2B_ATTEST, signature: TPMT_SIGNATURE_PLUS },
});

export const CertifyX509 = command(TPM_CC.CertifyX509, 'CertifyX509', {
  section: '18.8',
  handles: { objectHandle: admin(TPMI_DH_OBJECT), signHandle: user(TPMI_DH_OBJECT_PLUS) },
  in: { reserved: TPM2B_DATA, inScheme: TPMT_SIG_SCHEME_PLUS, partialCertificate: TPM2B_MAX_BUFFER },
  out: { addedToCertificate: TPM2B_MAX_BUFFER, tbsDigest: TPM2B_DIGEST, signature: TPMT_SIGNATURE_PLUS },
});
