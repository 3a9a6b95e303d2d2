// TPM 2.0 Library Part 3, 31.16: NV_Certify.
import type { NV_Certify } from '../../../../tpm/commands/index.js';
import { MAX_NV_BUFFER_SIZE, TPM_ALG, TPM_ST } from '../../../../tpm/constants/index.js';
import { hash } from '../../../../tpm/hash.js';
import { TPM_RC } from '../../../../tpm/response-code.js';
import { attest } from '../../../signing/attestation.js';
import type { Handler, Handlers } from '../../../dispatch/handler.js';
import { checkReadAccess } from '../../../dispatch/nv-access.js';
import { requireSigner, schemeHash } from '../../../signing/signing.js';

/** 31.16: size and offset of 0 ask for a digest of all the data; there is none without a scheme. */
const nvCertify: Handler<typeof NV_Certify> = async (tpm, { authHandle, qualifyingData, inScheme, size, offset }, call) => {
  const signer = requireSigner(call, 'signHandle', 'inScheme', inScheme);
  const index = call.nvIndex('nvIndex');
  checkReadAccess(authHandle, index);
  if (size + offset > index.publicArea.dataSize) throw call.error(TPM_RC.NV_RANGE);
  if (size > MAX_NV_BUFFER_SIZE) throw call.error(TPM_RC.VALUE, 'size');
  const indexName = tpm.nv.nameOf(index);
  if (size !== 0 || offset !== 0) {
    const nvContents = index.data.subarray(offset, offset + size);
    const what = { type: TPM_ST.ATTEST_NV, attested: { indexName, offset, nvContents } } as const;
    const { attested, signature } = await attest(tpm, signer, qualifyingData, what);
    return { certifyInfo: attested, signature };
  }
  const hashAlg = schemeHash(signer.scheme);
  const nvDigest = hashAlg === TPM_ALG.NULL ? Buffer.alloc(0) : hash(hashAlg, index.data);
  const what = { type: TPM_ST.ATTEST_NV_DIGEST, attested: { indexName, nvDigest } } as const;
  const { attested, signature } = await attest(tpm, signer, qualifyingData, what);
  return { certifyInfo: attested, signature };
};

export const nvCertifyHandlers = { NV_Certify: nvCertify } satisfies Partial<Handlers>;
