// TPM 2.0 Library Part 3, 11: session commands.
import { decapsulate } from '../../../crypto/secrets.js';
import type { Request } from '../../../tpm/command.js';
import type { StartAuthSession } from '../../../tpm/commands/index.js';
import { HANDLE_RANGE, TPM_ALG, TPM_RH, TPM_SE, TPMA_OBJECT } from '../../../tpm/constants/index.js';
import { digestSize } from '../../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../../tpm/response-code.js';
import { sessionKey } from '../../../tpm/session-crypto.js';
import type { Call } from '../../dispatch/call.js';
import type { Handlers } from '../../dispatch/handler.js';
import { bindValue, entityAuth, type Entity, isDaExempt } from '../../dispatch/entity.js';
import { isPin } from '../../state/nv.js';
import { hasAttribute } from '../../state/objects.js';
import { freshPolicy, resetPolicy } from '../../state/sessions.js';
import type { Session } from '../../state/session.js';
import type { Tpm } from '../../tpm.js';

const MIN_NONCE_SIZE = 16;
/** Bits of a response code that tell a warning, after which the command may be sent again, from an error (Part 2, 6.6.2). */
const WARNING_MASK = 0x980;
const WARNING = 0x900;

type StartRequest = Request<typeof StartAuthSession>;

/** The salt, empty without a key. The caller zeroizes it. */
async function openSalt({ tpmKey, encryptedSalt, nonceCaller }: StartRequest, call: Call<'tpmKey', 'encryptedSalt'>): Promise<Buffer> {
  if (tpmKey === TPM_RH.NULL) {
    if (encryptedSalt.length > 0) throw call.error(TPM_RC.VALUE, 'encryptedSalt');
    return Buffer.alloc(0);
  }
  const entity = call.entity('tpmKey');
  const type = entity.kind === 'object' ? entity.object.publicArea.type : TPM_ALG.NULL;
  if (entity.kind !== 'object' || (type !== TPM_ALG.RSA && type !== TPM_ALG.ECC)) throw call.error(TPM_RC.KEY, 'tpmKey');
  const { object } = entity;
  if (encryptedSalt.length === 0) throw call.error(TPM_RC.VALUE, 'encryptedSalt');
  if (object.privatePart === undefined) throw call.error(TPM_RC.HANDLE, 'tpmKey');
  if (!hasAttribute(object, TPMA_OBJECT.decrypt)) throw call.error(TPM_RC.ATTRIBUTES, 'tpmKey');
  try {
    return await decapsulate(object.privatePart, object.publicArea, 'SECRET', encryptedSalt, nonceCaller);
  } catch (error) {
    // Why it does not open is not for the caller to know, but that it may try again is.
    throw error instanceof TpmError && (error.code & WARNING_MASK) !== WARNING ? call.error(TPM_RC.VALUE, 'encryptedSalt') : error;
  }
}

/** The entity to bind to, undefined if none. `TPM_RC_HANDLE` for a public key, which has no authValue, and for a PIN index. */
function bindEntity(request: StartRequest, call: Call<'bind'>): Entity | undefined {
  if (request.bind === TPM_RH.NULL) return undefined;
  const entity = call.entity('bind');
  const unfit = (entity.kind === 'object' && entity.object.privatePart === undefined) || (entity.kind === 'nv' && isPin(entity.index));
  if (unfit) throw call.error(TPM_RC.HANDLE, 'bind');
  return entity;
}

function checkSymmetric({ symmetric }: StartRequest, call: Call<never, 'symmetric'>): void {
  const { algorithm, mode } = symmetric;
  if (algorithm === TPM_ALG.NULL || algorithm === TPM_ALG.XOR) return;
  if (mode !== TPM_ALG.CFB) throw call.error(TPM_RC.MODE, 'symmetric');
}

/** Makes the session at a handle index. The buffers of the request are copied where they are kept. */
function makeSession(tpm: Tpm, request: StartRequest, bind: Entity | undefined, salt: Buffer, index: number): Session {
  const { nonceCaller, sessionType, symmetric, authHash } = request;
  const isPolicy = sessionType !== TPM_SE.HMAC;
  const nonceTPM = tpm.random.randomBytes(nonceCaller.length);
  const daBound = bind !== undefined && !isDaExempt(bind);
  return {
    handle: (isPolicy ? HANDLE_RANGE.POLICY_SESSION.first : HANDLE_RANGE.HMAC_SESSION.first) + index,
    isPolicy,
    isTrial: sessionType === TPM_SE.TRIAL,
    authHash,
    symmetric,
    sessionKey: sessionKey(authHash, bind && entityAuth(tpm, bind), salt, nonceTPM, nonceCaller),
    nonceTPM,
    boundEntity: bind === undefined || isPolicy ? undefined : bindValue(tpm, bind),
    daBound,
    lockoutBound: daBound && bind.handle === TPM_RH.LOCKOUT,
    auditDigest: undefined,
    startTime: tpm.clock.time,
    epoch: tpm.clock.epoch,
    policy: freshPolicy(digestSize(authHash)),
  };
}

export const sessionHandlers = {
  /** 11.1 */
  StartAuthSession: async (tpm, request, call) => {
    const { nonceCaller, authHash } = request;
    if (nonceCaller.length < MIN_NONCE_SIZE || nonceCaller.length > digestSize(authHash)) throw call.error(TPM_RC.SIZE, 'nonceCaller');
    const salt = await openSalt(request, call);
    try {
      const bind = bindEntity(request, call);
      checkSymmetric(request, call);
      const session = tpm.sessions.add((index) => makeSession(tpm, request, bind, salt, index));
      return { sessionHandle: session.handle, nonceTPM: session.nonceTPM };
    } finally {
      salt.fill(0);
    }
  },

  /** 11.2 */
  PolicyRestart: (_tpm, _request, call) => {
    resetPolicy(call.session('sessionHandle'));
  },
} satisfies Partial<Handlers>;
