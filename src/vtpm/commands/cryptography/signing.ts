// TPM 2.0 Library Part 3, 20: signing and signature verification.
import { timingSafeEqual } from 'node:crypto';
import { verifySignature } from '../../../crypto/signatures.js';
import { TPM_ALG, TPM_RH, TPM_ST, TPMA_OBJECT } from '../../../tpm/constants/index.js';
import { digestSize, hmac } from '../../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../../tpm/response-code.js';
import type { TPMT_SIGNATURE } from '../../../tpm/structures/index.js';
import type { Handlers } from '../../dispatch/handler.js';
import { requireSigner, requireSigningKey, schemeHash, signDigest } from '../../signing/signing.js';
import { hasAttribute } from '../../state/objects.js';
import type { TpmObject } from '../../state/object.js';
import { hashCheckTicket, isTicketValid, verifiedTicket } from '../../signing/tickets.js';

/** Checks an asymmetric signature or an HMAC. `TPM_RC_SIGNATURE` if it is not good, `TPM_RC_SCHEME`, `TPM_RC_HANDLE` for a public HMAC key. */
export async function validateSignature(key: TpmObject, digest: Buffer, signature: TPMT_SIGNATURE): Promise<void> {
  const { publicArea } = key;
  if (publicArea.type === TPM_ALG.KEYEDHASH) {
    if (signature.sigAlg !== TPM_ALG.HMAC) throw new TpmError(TPM_RC.SCHEME);
    const { scheme } = publicArea.parameters;
    if (scheme.scheme !== TPM_ALG.NULL && (scheme.scheme !== TPM_ALG.HMAC || scheme.details.hashAlg !== signature.signature.hashAlg)) {
      throw new TpmError(TPM_RC.SIGNATURE);
    }
    if (key.privatePart === undefined) throw new TpmError(TPM_RC.HANDLE);
    const { sensitive } = await key.privatePart.secret();
    const expected = hmac(signature.signature.hashAlg, sensitive, digest);
    sensitive.fill(0);
    const given = signature.signature.digest;
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) throw new TpmError(TPM_RC.SIGNATURE);
    return;
  }
  if (!verifySignature(publicArea, digest, signature)) throw new TpmError(TPM_RC.SIGNATURE);
}

export const signingHandlers = {
  /** 20.1 */
  VerifySignature: async (tpm, { digest, signature }, call) => {
    const key = call.object('keyHandle', TPM_RC.ATTRIBUTES);
    if (!hasAttribute(key, TPMA_OBJECT.sign)) throw call.error(TPM_RC.ATTRIBUTES, 'keyHandle');
    await call.atAsync('signature', () => validateSignature(key, digest, signature));
    if (key.hierarchy === TPM_RH.NULL || key.publicArea.nameAlg === TPM_ALG.NULL) {
      return { validation: { tag: TPM_ST.VERIFIED, hierarchy: TPM_RH.NULL, digest: Buffer.alloc(0) } };
    }
    return { validation: verifiedTicket(tpm, key.hierarchy, digest, key.name) };
  },

  /** 20.2 */
  Sign: async (tpm, { digest, inScheme, validation }, call) => {
    const key = requireSigningKey(call, 'keyHandle');
    if (hasAttribute(key, TPMA_OBJECT.x509sign)) throw call.error(TPM_RC.ATTRIBUTES, 'keyHandle');
    const signer = requireSigner(call, 'keyHandle', 'inScheme', inScheme);
    if (validation.digest.length > 0 || hasAttribute(key, TPMA_OBJECT.restricted)) {
      const expected = hashCheckTicket(tpm, validation.hierarchy, digest);
      if (!isTicketValid(expected, validation)) throw call.error(TPM_RC.TICKET, 'validation');
    } else if (digest.length !== digestSize(schemeHash(signer.scheme))) {
      throw call.error(TPM_RC.SIZE, 'digest');
    }
    return { signature: await signDigest(tpm, signer, digest) };
  },
} satisfies Partial<Handlers>;
