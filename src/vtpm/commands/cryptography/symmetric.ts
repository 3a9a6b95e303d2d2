// TPM 2.0 Library Part 3, 15.2 and 15.3: symmetric encryption (Hash and HMAC are with the sequences).
import { cryptBlocks } from '../../../crypto/symmetric.js';
import { cipherBlockSize } from '../../../tpm/block-cipher.js';
import type { Request, Response } from '../../../tpm/command.js';
import type { EncryptDecrypt, EncryptDecrypt2 } from '../../../tpm/commands/index.js';
import { TPM_ALG, TPMA_OBJECT } from '../../../tpm/constants/index.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import { YES } from '../../../tpm/structures/index.js';
import type { Call } from '../../dispatch/call.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';
import { hasAttribute } from '../../state/objects.js';
import type { Tpm } from '../../tpm.js';
import { withSecret } from '../../objects/with-secret.js';
import type { PrivatePart } from '../../../keys/engine.js';

type CryptRequest = Request<typeof EncryptDecrypt>;

/** The cipher key that a handle stands for and the mode to use, if the key may do it. */
function requireCipherKey(
  call: Call<'keyHandle', 'mode'>,
  request: CryptRequest,
): { privatePart: PrivatePart; algorithm: number; mode: number } {
  const entity = call.entity('keyHandle');
  if (entity.kind !== 'object' || entity.object.publicArea.type !== TPM_ALG.SYMCIPHER) throw call.error(TPM_RC.KEY, 'keyHandle');
  const { publicArea, privatePart } = entity.object;
  const use = request.decrypt === YES ? TPMA_OBJECT.decrypt : TPMA_OBJECT.sign;
  const usable = hasAttribute(entity.object, use) && !hasAttribute(entity.object, TPMA_OBJECT.restricted);
  if (!usable || privatePart === undefined) throw call.error(TPM_RC.ATTRIBUTES, 'keyHandle');
  const { algorithm, mode } = publicArea.parameters.sym;
  const own = mode ?? TPM_ALG.NULL;
  if (own === TPM_ALG.CMAC) throw call.error(TPM_RC.MODE, 'keyHandle');
  if (own === TPM_ALG.NULL ? request.mode === TPM_ALG.NULL : request.mode !== TPM_ALG.NULL && request.mode !== own) {
    throw call.error(TPM_RC.MODE, 'mode');
  }
  return { privatePart, algorithm, mode: own === TPM_ALG.NULL ? request.mode : own };
}

async function crypt(call: Call<'keyHandle', 'mode' | 'ivIn' | 'inData'>, request: CryptRequest): Promise<Response<typeof EncryptDecrypt>> {
  const { privatePart, algorithm, mode } = requireCipherKey(call, request);
  const { ivIn, inData } = request;
  const block = cipherBlockSize(algorithm);
  if (ivIn.length !== (mode === TPM_ALG.ECB ? 0 : block)) throw call.error(TPM_RC.SIZE, 'ivIn');
  if ((mode === TPM_ALG.CBC || mode === TPM_ALG.ECB) && inData.length % block !== 0) throw call.error(TPM_RC.SIZE, 'inData');
  const direction = request.decrypt === YES ? 'decrypt' : 'encrypt';
  const { data, iv } = await withSecret(privatePart, (key) => cryptBlocks({ direction, algorithm, mode, key, iv: ivIn, data: inData }));
  return { outData: data, ivOut: iv };
}

/** 15.2 */
const encryptDecrypt: Handler<typeof EncryptDecrypt> = (_tpm: Tpm, request, call) => crypt(call, request);

/** 15.3: the same, with the data first so that a session can encrypt it. */
const encryptDecrypt2: Handler<typeof EncryptDecrypt2> = (_tpm: Tpm, request, call) => crypt(call, request);

export const symmetricHandlers = { EncryptDecrypt: encryptDecrypt, EncryptDecrypt2: encryptDecrypt2 } satisfies Partial<Handlers>;
