// TPM 2.0 Library Part 1, 24: credentials for a key that lives in the same TPM as a storage key.
import { TPM_ALG } from '../tpm/constants/index.js';
import { digestSize } from '../tpm/hash.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { decode, encode } from '../tpm/schema.js';
import { TPM2B_DIGEST, type TPMT_PUBLIC } from '../tpm/structures/index.js';
import { outerUnwrap, outerWrap, type WrapParameters } from './outer-wrap.js';
import { encapsulate } from './secrets.js';

/** How a storage key protects what is under it: its `nameAlg` and symmetric algorithm. `TPM_RC_TYPE` if it is not asymmetric. */
export function wrapParametersOf(publicArea: TPMT_PUBLIC): WrapParameters {
  if (publicArea.type !== TPM_ALG.RSA && publicArea.type !== TPM_ALG.ECC) throw new TpmError(TPM_RC.TYPE);
  return { hashAlg: publicArea.nameAlg, symmetric: publicArea.parameters.symmetric };
}

/** The two outputs of `MakeCredential`: contents of a `TPM2B_ID_OBJECT` and of a `TPM2B_ENCRYPTED_SECRET`. */
export interface Credential {
  readonly credentialBlob: Buffer;
  readonly secret: Buffer;
}

/**
 * Protects `credential` so that only the TPM that holds both the storage key `publicArea` and the object named `objectName` reveals it.
 * `TPM_RC_SIZE` if the credential is longer than a digest of the key's `nameAlg`, `TPM_RC_TYPE`, `TPM_RC_SYMMETRIC`; errors of
 * {@link encapsulate}.
 */
export function makeCredential(publicArea: TPMT_PUBLIC, objectName: Buffer, credential: Buffer): Credential {
  const parameters = wrapParametersOf(publicArea);
  if (credential.length > digestSize(publicArea.nameAlg)) throw new TpmError(TPM_RC.SIZE);
  const { secret: seed, encrypted } = encapsulate(publicArea, 'IDENTITY');
  const identity = encode(TPM2B_DIGEST, credential);
  const credentialBlob = outerWrap(parameters, seed, objectName, identity);
  identity.fill(0);
  seed.fill(0);
  return { credentialBlob, secret: encrypted };
}

/**
 * Reveals a credential. `seed` is what `decapsulate(…, 'IDENTITY', secret)` gave for the storage key `publicArea`; the two steps
 * are apart because their errors belong to different parameters. `TPM_RC_INTEGRITY` if the blob was not made for this key and
 * object, `TPM_RC_SIZE`, `TPM_RC_INSUFFICIENT`, `TPM_RC_TYPE`.
 */
export function openCredential(publicArea: TPMT_PUBLIC, objectName: Buffer, seed: Buffer, credentialBlob: Buffer): Buffer {
  return decode(TPM2B_DIGEST, outerUnwrap(wrapParametersOf(publicArea), seed, objectName, credentialBlob));
}
