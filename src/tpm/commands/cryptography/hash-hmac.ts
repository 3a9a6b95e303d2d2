// TPM 2.0 Library Part 3, 17: hash, HMAC and event sequences.
import { command, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import {
  TPM2B_AUTH,
  TPM2B_DIGEST,
  TPM2B_MAX_BUFFER,
  TPMI_ALG_HASH_PLUS,
  TPMI_ALG_MAC_SCHEME_PLUS,
  TPMI_DH_OBJECT,
  TPMI_DH_PCR_PLUS,
  TPMI_RH_HIERARCHY_PLUS,
  TPML_DIGEST_VALUES,
  TPMT_TK_HASHCHECK,
  TPM_HANDLE,
} from '../../structures/index.js';

/** `HMAC_Start`, and `MAC_Start` (17.3), which has the same code and layout: see `HMAC`. */
export const HMAC_Start = command(TPM_CC.HMAC_Start, 'HMAC_Start', {
  section: '17.2',
  handles: { handle: user(TPMI_DH_OBJECT) },
  in: { auth: TPM2B_AUTH, hashAlg: TPMI_ALG_MAC_SCHEME_PLUS },
  outHandle: { sequenceHandle: TPM_HANDLE },
});

export const HashSequenceStart = command(TPM_CC.HashSequenceStart, 'HashSequenceStart', {
  section: '17.4',
  in: { auth: TPM2B_AUTH, hashAlg: TPMI_ALG_HASH_PLUS },
  outHandle: { sequenceHandle: TPM_HANDLE },
});

export const SequenceUpdate = command(TPM_CC.SequenceUpdate, 'SequenceUpdate', {
  section: '17.5',
  handles: { sequenceHandle: user(TPMI_DH_OBJECT) },
  in: { buffer: TPM2B_MAX_BUFFER },
});

export const SequenceComplete = command(TPM_CC.SequenceComplete, 'SequenceComplete', {
  section: '17.6',
  handles: { sequenceHandle: user(TPMI_DH_OBJECT) },
  in: { buffer: TPM2B_MAX_BUFFER, hierarchy: TPMI_RH_HIERARCHY_PLUS },
  out: { result: TPM2B_DIGEST, validation: TPMT_TK_HASHCHECK },
  flushed: true,
});

export const EventSequenceComplete = command(TPM_CC.EventSequenceComplete, 'EventSequenceComplete', {
  section: '17.7',
  handles: { pcrHandle: user(TPMI_DH_PCR_PLUS), sequenceHandle: user(TPMI_DH_OBJECT) },
  in: { buffer: TPM2B_MAX_BUFFER },
  out: { results: TPML_DIGEST_VALUES },
  nv: true,
  flushed: true,
});
