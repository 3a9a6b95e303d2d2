// TPM 2.0 Library Part 1, 25.3 (signing schemes of objects) and Part 3, 20: what signing commands have in common.
import { getCurve } from '../../crypto/ecc-curves.js';
import { ecdaaSign } from '../../crypto/ecc-signatures.js';
import { SOFTWARE_ENGINE_ID } from '../../keys/software-key.js';
import { TPM_ALG, TPMA_OBJECT } from '../../tpm/constants/index.js';
import { hmac } from '../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import type { TPMS_SCHEME_ECDAA, TPMT_SIG_SCHEME_PLUS, TPMT_SIGNATURE_PLUS } from '../../tpm/structures/index.js';
import type { Call } from '../dispatch/call.js';
import type { Commits } from '../state/commits.js';
import { hasAttribute, privatePartOf } from '../state/objects.js';
import type { TpmObject } from '../state/object.js';
import type { Tpm } from '../tpm.js';
import { withSecret } from '../objects/with-secret.js';

/** A key to sign with and the scheme to use, or neither: then the signature is NULL. */
export interface Signer {
  readonly key: TpmObject | undefined;
  readonly scheme: TPMT_SIG_SCHEME_PLUS;
}

const nullScheme: TPMT_SIG_SCHEME_PLUS = { scheme: TPM_ALG.NULL, details: null };

/** The key that a handle stands for. `TPM_RC_KEY`, placed, if it does not sign. */
export function requireSigningKey<H extends string>(call: Call<H>, handle: H): TpmObject {
  const key = call.object(handle, TPM_RC.KEY);
  if (!hasAttribute(key, TPMA_OBJECT.sign) || key.publicArea.type === TPM_ALG.SYMCIPHER) throw call.error(TPM_RC.KEY, handle);
  return key;
}

/**
 * The signer that a command's key handle and scheme parameter stand for: TPM_RH_NULL is no signer. `TPM_RC_KEY` if the object is no
 * signing key, `TPM_RC_SCHEME` if the scheme is not the key's, both placed.
 */
export function requireSigner<H extends string, P extends string>(
  call: Call<H, P>,
  handle: H,
  schemeParameter: P,
  scheme: TPMT_SIG_SCHEME_PLUS,
): Signer {
  const entity = call.entity(handle);
  if (entity.kind === 'hierarchy') return { key: undefined, scheme: nullScheme };
  const key = requireSigningKey(call, handle);
  return { key, scheme: call.at(schemeParameter, () => selectScheme(key, scheme)) };
}

const keySchemes: Readonly<Record<number, readonly number[]>> = {
  [TPM_ALG.RSA]: [TPM_ALG.RSASSA, TPM_ALG.RSAPSS],
  [TPM_ALG.ECC]: [TPM_ALG.ECDSA, TPM_ALG.ECDAA, TPM_ALG.SM2, TPM_ALG.ECSCHNORR],
  [TPM_ALG.KEYEDHASH]: [TPM_ALG.HMAC],
};

/** The key's scheme if it has one, which `asked` must not contradict; otherwise `asked`. `TPM_RC_SCHEME`, bare. */
function selectScheme(key: TpmObject, asked: TPMT_SIG_SCHEME_PLUS): TPMT_SIG_SCHEME_PLUS {
  const own = ownScheme(key);
  if (own.scheme === TPM_ALG.NULL) {
    if (keySchemes[key.publicArea.type]?.includes(asked.scheme) !== true) throw new TpmError(TPM_RC.SCHEME);
    return asked;
  }
  if (asked.scheme === TPM_ALG.NULL) {
    if (own.scheme === TPM_ALG.ECDAA) throw new TpmError(TPM_RC.SCHEME);
    return own;
  }
  if (own.scheme !== asked.scheme || schemeHash(own) !== schemeHash(asked)) throw new TpmError(TPM_RC.SCHEME);
  return asked;
}

function ownScheme(key: TpmObject): TPMT_SIG_SCHEME_PLUS {
  const { publicArea } = key;
  if (publicArea.type === TPM_ALG.SYMCIPHER) return nullScheme;
  return publicArea.parameters.scheme as TPMT_SIG_SCHEME_PLUS;
}

/** Hash algorithm of a scheme; TPM_ALG_NULL of the NULL scheme. */
export function schemeHash(scheme: TPMT_SIG_SCHEME_PLUS): number {
  return scheme.scheme === TPM_ALG.NULL ? TPM_ALG.NULL : scheme.details.hashAlg;
}

/**
 * Signs a digest: a NULL signature without a key. `TPM_RC_VALUE`, bare, if the count of an ECDAA scheme is not that of a commit; the
 * errors of the key's engine.
 */
export async function signDigest({ commits }: Tpm, { key, scheme }: Signer, digest: Buffer): Promise<TPMT_SIGNATURE_PLUS> {
  if (key === undefined || scheme.scheme === TPM_ALG.NULL) return { sigAlg: TPM_ALG.NULL, signature: null };
  if (scheme.scheme === TPM_ALG.ECDAA) return signAnonymously(commits, key, scheme.details, digest);
  if (scheme.scheme !== TPM_ALG.HMAC) return privatePartOf(key).sign(digest, scheme);
  const { hashAlg } = scheme.details;
  const { sensitive } = await privatePartOf(key).secret();
  const mac = hmac(hashAlg, sensitive, digest);
  sensitive.fill(0);
  return { sigAlg: TPM_ALG.HMAC, signature: { hashAlg, digest: mac } };
}

/** ECDAA with the ephemeral key of a commit, which cannot be used again. A chip's key has no scalar to give. */
async function signAnonymously(
  commits: Commits,
  key: TpmObject,
  { hashAlg, count }: TPMS_SCHEME_ECDAA,
  digest: Buffer,
): Promise<TPMT_SIGNATURE_PLUS> {
  const { publicArea } = key;
  const privatePart = privatePartOf(key);
  if (publicArea.type !== TPM_ALG.ECC || privatePart.engineId !== SOFTWARE_ENGINE_ID) throw new TpmError(TPM_RC.SCHEME);
  const curve = getCurve(publicArea.parameters.curveID);
  const ephemeral = commits.use(count, curve, key.name);
  try {
    const { r, s } = await withSecret(privatePart, (d) => ecdaaSign(curve, d, ephemeral, digest, hashAlg));
    commits.end(count);
    return { sigAlg: TPM_ALG.ECDAA, signature: { hash: hashAlg, signatureR: r, signatureS: s } };
  } finally {
    ephemeral.fill(0);
  }
}
