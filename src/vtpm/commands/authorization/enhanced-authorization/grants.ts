// TPM 2.0 Library Part 3, 23.3 to 23.6, 23.16 and 23.22: assertions that somebody has authorized something.
import { timingSafeEqual } from 'node:crypto';
import { PolicyAuthorize, PolicyAuthorizeNV, PolicyOR } from '../../../../tpm/commands/index.js';
import { nvType, TPM_ALG, TPM_NT, TPM_ST } from '../../../../tpm/constants/index.js';
import { digestSize, hash, isHashAlg } from '../../../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../../../tpm/response-code.js';
import { encode, int32 } from '../../../../tpm/schema.js';
import { TPMT_HA, type TPMT_SIGNATURE } from '../../../../tpm/structures/index.js';
import { Reader } from '../../../../tpm/wire.js';
import type { Call } from '../../../dispatch/call.js';
import type { Handlers } from '../../../dispatch/handler.js';
import { entityHierarchy, entityName } from '../../../dispatch/entity.js';
import { checkReadAccess } from '../../../dispatch/nv-access.js';
import { extendPolicy } from '../../../policy/policy-update.js';
import {
  authorizationTimeout,
  checkAuthorization,
  checkNonce,
  type GrantedAuthorization,
  issueTicket,
  noTicket,
  parseTimeout,
  recordAuthorization,
} from '../../../policy/signed-authorization.js';
import { authTicket, isTicketValid, verifiedTicket } from '../../../signing/tickets.js';
import { validateSignature } from '../../cryptography/signing.js';

/** Bytes of the algorithm at the beginning of a Name. */
const NAME_ALG_SIZE = 2;

/** Hash algorithm of a signature; `TPM_RC_SCHEME` for one that cannot be verified by the data that is signed. */
function signedHash({ sigAlg, signature }: TPMT_SIGNATURE): number {
  if (sigAlg === TPM_ALG.HMAC) return signature.hashAlg;
  if (sigAlg === TPM_ALG.NULL || sigAlg === TPM_ALG.ECDAA) throw new TpmError(TPM_RC.SCHEME);
  return signature.hash;
}

/** Checks a key's signature of what it authorizes. Codes of {@link validateSignature}, at `auth`. */
async function checkSignedAuthorization(
  call: Call<'authObject', 'auth'>,
  auth: TPMT_SIGNATURE,
  ...parts: readonly Buffer[]
): Promise<void> {
  await call.atAsync('auth', async () => {
    const digest = hash(signedHash(auth), ...parts);
    const entity = call.entity('authObject');
    if (entity.kind !== 'object') throw new TpmError(TPM_RC.SCHEME);
    await validateSignature(entity.object, digest, auth);
  });
}

export const policyAuthorizationHandlers = {
  /** 23.3. In a trial session nothing is checked and no ticket made. */
  PolicySigned: async (tpm, { nonceTPM, cpHashA, policyRef, expiration, auth }, call) => {
    const session = call.session('policySession');
    const tag = TPM_ST.AUTH_SIGNED;
    let timeout = 0n;
    if (!session.isTrial) {
      timeout = authorizationTimeout(tpm, session, expiration, nonceTPM);
      checkNonce(session, nonceTPM, call);
      checkAuthorization(tpm, session, { timeout, cpHashA }, call, 'expiration');
      await checkSignedAuthorization(call, auth, nonceTPM, encode(int32, expiration), cpHashA, policyRef);
    }
    const entity = call.entity('authObject');
    const granted: GrantedAuthorization = { tag, entityName: entityName(tpm, entity), policyRef, cpHashA, timeout };
    recordAuthorization(session, granted);
    if (expiration >= 0 || session.isTrial) return noTicket(tag);
    return issueTicket(tpm, entityHierarchy(entity), nonceTPM.length === 0, granted);
  },

  /** 23.4. Each use of a PIN Pass index must count, so there is no ticket for it. */
  PolicySecret: (tpm, { nonceTPM, cpHashA, policyRef, expiration }, call) => {
    const session = call.session('policySession');
    const tag = TPM_ST.AUTH_SECRET;
    let timeout = 0n;
    if (!session.isTrial) {
      timeout = authorizationTimeout(tpm, session, expiration, nonceTPM);
      checkNonce(session, nonceTPM, call);
      checkAuthorization(tpm, session, { timeout, cpHashA }, call, 'expiration');
    }
    const entity = call.entity('authHandle');
    const granted: GrantedAuthorization = { tag, entityName: entityName(tpm, entity), policyRef, cpHashA, timeout };
    recordAuthorization(session, granted);
    const isPinPass = entity.kind === 'nv' && nvType(entity.index.publicArea.attributes) === TPM_NT.PIN_PASS;
    if (expiration >= 0 || session.isTrial || isPinPass) return noTicket(tag);
    return issueTicket(tpm, entityHierarchy(entity), nonceTPM.length === 0, granted);
  },

  /** 23.5 */
  PolicyTicket: (tpm, { timeout: timeoutBytes, cpHashA, policyRef, authName, ticket }, call) => {
    const session = call.session('policySession');
    if (session.isTrial) throw call.error(TPM_RC.ATTRIBUTES, 'policySession');
    const parsed = parseTimeout(timeoutBytes);
    if (parsed === undefined) throw call.error(TPM_RC.SIZE, 'timeout');
    const { timeout, expiresOnReset } = parsed;
    checkAuthorization(tpm, session, { timeout, cpHashA }, call, 'timeout');
    const { tag, hierarchy } = ticket;
    const expected = authTicket(tpm, tag, hierarchy, timeout, expiresOnReset, cpHashA, policyRef, authName);
    if (!isTicketValid(expected, ticket)) throw call.error(TPM_RC.TICKET, 'ticket');
    recordAuthorization(session, { tag, entityName: authName, policyRef, cpHashA, timeout });
  },

  /** 23.6 */
  PolicyOR: (_tpm, { pHashList }, call) => {
    const session = call.session('policySession');
    if (!session.isTrial && !pHashList.some((digest) => digest.equals(session.policy.digest))) throw call.error(TPM_RC.VALUE, 'pHashList');
    extendPolicy(session, PolicyOR, { pHashList });
  },

  /** 23.16 */
  PolicyAuthorize: (tpm, { approvedPolicy, policyRef, keySign, checkTicket }, call) => {
    const session = call.session('policySession');
    const hashAlg = keySign.length < NAME_ALG_SIZE ? TPM_ALG.NULL : keySign.readUInt16BE();
    if (!isHashAlg(hashAlg)) throw call.error(TPM_RC.HASH, 'keySign');
    if (digestSize(hashAlg) !== keySign.length - NAME_ALG_SIZE) throw call.error(TPM_RC.SIZE, 'keySign');
    if (!session.isTrial) {
      if (!session.policy.digest.equals(approvedPolicy)) throw call.error(TPM_RC.VALUE, 'approvedPolicy');
      const expected = verifiedTicket(tpm, checkTicket.hierarchy, hash(hashAlg, approvedPolicy, policyRef), keySign);
      if (!isTicketValid(expected, checkTicket)) throw call.error(TPM_RC.VALUE, 'checkTicket');
    }
    extendPolicy(session, PolicyAuthorize, { keySign, policyRef });
  },

  /** 23.22. The index holds a `TPMT_HA`: the policy that is approved. */
  PolicyAuthorizeNV: (tpm, { authHandle }, call) => {
    const session = call.session('policySession');
    const index = call.nvIndex('nvIndex');
    if (!session.isTrial) {
      checkReadAccess(authHandle, index);
      const { hashAlg, digest } = TPMT_HA.decode(new Reader(index.data));
      if (hashAlg !== session.authHash) throw call.error(TPM_RC.HASH);
      if (!timingSafeEqual(digest, session.policy.digest)) throw call.error(TPM_RC.VALUE);
    }
    extendPolicy(session, PolicyAuthorizeNV, { nvIndex: tpm.nv.nameOf(index) });
  },
} satisfies Partial<Handlers>;
