// TPM 2.0 Library Part 3, 14: asymmetric primitives.
import { getCurve } from '../../../crypto/ecc-curves.js';
import { generateEccKey, isOnCurve, multiply } from '../../../crypto/ecc.js';
import { rsaEncrypt } from '../../../crypto/encrypt.js';
import { TPM_ALG, TPMA_OBJECT } from '../../../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../../tpm/response-code.js';
import type { TPMT_RSA_DECRYPT_PLUS, TPMT_RSA_SCHEME_PLUS } from '../../../tpm/structures/index.js';
import { curveParameters } from '../../objects/curve-parameters.js';
import type { Call } from '../../dispatch/call.js';
import type { Handlers } from '../../dispatch/handler.js';
import { hasAttribute, privatePartOf } from '../../state/objects.js';
import type { TpmObject } from '../../state/object.js';
import { exchange } from '../../objects/two-phase-exchange.js';

/** A label must end with a zero byte, if there is one. */
function requireLabel(call: Call<never, 'label'>, label: Buffer): void {
  if (label.length > 0 && label[label.length - 1] !== 0) throw call.error(TPM_RC.VALUE, 'label');
}

/** An RSA key, and the scheme that key and caller agree on. `TPM_RC_KEY`, `TPM_RC_ATTRIBUTES`, `TPM_RC_VALUE`, `TPM_RC_SCHEME`, placed. */
function requireRsa(
  call: Call<'keyHandle', 'inScheme' | 'label'>,
  allowRestricted: boolean,
  inScheme: TPMT_RSA_DECRYPT_PLUS,
  label: Buffer,
): { key: TpmObject; scheme: TPMT_RSA_DECRYPT_PLUS } {
  const key = call.object('keyHandle', TPM_RC.KEY);
  if (key.publicArea.type !== TPM_ALG.RSA) throw call.error(TPM_RC.KEY, 'keyHandle');
  const restricted = hasAttribute(key, TPMA_OBJECT.restricted) && !allowRestricted;
  if (restricted || !hasAttribute(key, TPMA_OBJECT.decrypt)) throw call.error(TPM_RC.ATTRIBUTES, 'keyHandle');
  requireLabel(call, label);
  const own = key.publicArea.parameters.scheme;
  return { key, scheme: call.at('inScheme', () => selectRsaScheme(own, inScheme)) };
}

function selectRsaScheme(own: TPMT_RSA_SCHEME_PLUS, asked: TPMT_RSA_DECRYPT_PLUS): TPMT_RSA_DECRYPT_PLUS {
  if (own.scheme === TPM_ALG.NULL) return asked;
  if (asked.scheme === TPM_ALG.NULL) return own as TPMT_RSA_DECRYPT_PLUS;
  if (own.scheme !== asked.scheme) throw new TpmError(TPM_RC.SCHEME);
  if (own.scheme === TPM_ALG.OAEP && asked.scheme === TPM_ALG.OAEP && own.details.hashAlg !== asked.details.hashAlg)
    throw new TpmError(TPM_RC.SCHEME);
  return asked;
}

function requireEcc(call: Call<'keyHandle'>): TpmObject & { publicArea: { type: typeof TPM_ALG.ECC } } {
  const key = call.object('keyHandle', TPM_RC.KEY);
  if (key.publicArea.type !== TPM_ALG.ECC) throw call.error(TPM_RC.KEY, 'keyHandle');
  return key as TpmObject & { publicArea: { type: typeof TPM_ALG.ECC } };
}

export const asymmetricHandlers = {
  /** 14.2 */
  RSA_Encrypt: (_tpm, { message, inScheme, label }, call) => {
    const { key, scheme } = requireRsa(call, true, inScheme, label);
    return { outData: rsaEncrypt(key.publicArea, message, scheme, label) };
  },

  /** 14.3 */
  RSA_Decrypt: async (_tpm, { cipherText, inScheme, label }, call) => {
    const { key, scheme } = requireRsa(call, false, inScheme, label);
    const { publicArea } = key;
    const modulus = publicArea.type === TPM_ALG.RSA ? publicArea.unique : cipherText;
    if (cipherText.length === modulus.length && Buffer.compare(cipherText, modulus) >= 0) throw call.error(TPM_RC.VALUE, 'cipherText');
    return { message: await privatePartOf(key).rsaDecrypt(cipherText, scheme, label) };
  },

  /** 14.4 */
  ECDH_KeyGen: (_tpm, _request, call) => {
    const { publicArea } = requireEcc(call);
    const curve = getCurve(publicArea.parameters.curveID);
    const ephemeral = generateEccKey(curve);
    const zPoint = call.at('keyHandle', () => {
      try {
        return multiply(curve, ephemeral.d, publicArea.unique);
      } catch (error) {
        throw error instanceof TpmError && error.code === TPM_RC.ECC_POINT ? new TpmError(TPM_RC.KEY) : error;
      }
    });
    ephemeral.d.fill(0);
    return { zPoint, pubPoint: ephemeral.point };
  },

  /** 14.5 */
  ECDH_ZGen: async (_tpm, { inPoint }, call) => {
    const key = requireEcc(call);
    if (hasAttribute(key, TPMA_OBJECT.restricted) || !hasAttribute(key, TPMA_OBJECT.decrypt))
      throw call.error(TPM_RC.ATTRIBUTES, 'keyHandle');
    const { scheme } = key.publicArea.parameters.scheme;
    if (scheme !== TPM_ALG.ECDH && scheme !== TPM_ALG.NULL) throw call.error(TPM_RC.SCHEME, 'keyHandle');
    return { outPoint: await call.atAsync('inPoint', () => privatePartOf(key).ecdhZGen(inPoint)) };
  },

  /** 14.6 */
  ECC_Parameters: (_tpm, { curveID }, call) => {
    const parameters = curveParameters(curveID);
    if (parameters === undefined) throw call.error(TPM_RC.VALUE, 'curveID');
    return { parameters };
  },

  /** 14.7 */
  ZGen_2Phase: async (tpm, { inQsB, inQeB, inScheme, counter }, call) => {
    const key = call.object('keyA', TPM_RC.KEY);
    const { publicArea } = key;
    if (publicArea.type !== TPM_ALG.ECC) throw call.error(TPM_RC.KEY, 'keyA');
    if (hasAttribute(key, TPMA_OBJECT.restricted) || !hasAttribute(key, TPMA_OBJECT.decrypt)) throw call.error(TPM_RC.ATTRIBUTES, 'keyA');
    const { scheme, curveID } = publicArea.parameters;
    if (scheme.scheme !== TPM_ALG.NULL && scheme.scheme !== inScheme) throw call.error(TPM_RC.SCHEME, 'inScheme');
    const curve = getCurve(curveID);
    if (!isOnCurve(curve, inQsB)) throw call.error(TPM_RC.ECC_POINT, 'inQsB');
    if (!isOnCurve(curve, inQeB)) throw call.error(TPM_RC.ECC_POINT, 'inQeB');
    const ephemeralA = call.at('counter', () => tpm.commits.use(counter, curve));
    const keys = { curve, staticA: privatePartOf(key), ephemeralA, staticB: inQsB, ephemeralB: inQeB };
    try {
      const result = await exchange(inScheme, keys);
      tpm.commits.end(counter);
      return result;
    } finally {
      ephemeralA.fill(0);
    }
  },
} satisfies Partial<Handlers>;
