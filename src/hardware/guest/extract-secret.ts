// TPM 2.0 Library Part 3, 13.1: taking a key out of the chip that its guest made duplicable.
import { getCurve } from '../../crypto/ecc-curves.js';
import { type EccKeyPair, generateEccKey, multiply } from '../../crypto/ecc.js';
import { innerUnwrap, newInnerKey, outerUnwrap } from '../../crypto/outer-wrap.js';
import { decapsulate } from '../../crypto/secrets.js';
import { Duplicate, LoadExternal, PolicyCommandCode } from '../../tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH } from '../../tpm/constants/index.js';
import { nameOfPublic } from '../../tpm/name.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { decode } from '../../tpm/schema.js';
import { TPM2B_SENSITIVE, type TPMT_PUBLIC } from '../../tpm/structures/index.js';
import { flushedAfter, type CommandSender } from '../chip/sender.js';
import { withPolicySession } from '../chip/policy-session.js';
import type { LoadableKey } from '../turns/slots.js';
import { transferKeyPublic } from '../host/templates.js';

const NAME_ALG = TPM_ALG.SHA256;
const CIPHER = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB } as const;

/**
 * The secret of the loaded `key`, whose policy is `PolicyCommandCode(Duplicate)`. The chip encrypts it twice, for a fresh key of ours
 * and for this command. Part of a turn; six commands.
 */
export async function extractSecret(sender: CommandSender, key: LoadableKey, handle: number): Promise<Buffer> {
  const curve = getCurve(TPM_ECC_CURVE.NIST_P256);
  const transfer = generateEccKey(curve);
  const inPublic = transferKeyPublic(transfer.point);
  const { objectHandle: newParentHandle } = await sender.execute(LoadExternal, { inPrivate: null, inPublic, hierarchy: TPM_RH.NULL });
  const encryptionKeyIn = newInnerKey(CIPHER);
  try {
    const { duplicate, outSymSeed } = await flushedAfter(sender, newParentHandle, () =>
      withPolicySession(sender, async (policy) => {
        await sender.execute(PolicyCommandCode, { policySession: policy, code: Duplicate.code });
        const names = [key.name, nameOfPublic(inPublic)];
        const authorizations = [
          { kind: 'policy', handle: policy },
          { kind: 'session', authValue: undefined },
        ] as const;
        const request = { objectHandle: handle, newParentHandle, encryptionKeyIn, symmetricAlg: CIPHER };
        return await sender.execute(Duplicate, request, { names, authorizations });
      }),
    );
    return await unwrap(key.name, inPublic, transfer, encryptionKeyIn, duplicate, outSymSeed);
  } finally {
    encryptionKeyIn.fill(0);
    transfer.d.fill(0);
  }
}

async function unwrap(
  name: Buffer,
  publicArea: TPMT_PUBLIC,
  transfer: EccKeyPair,
  innerKey: Buffer,
  duplicate: Buffer,
  outSymSeed: Buffer,
): Promise<Buffer> {
  const refuse = (): Promise<never> => Promise.reject(new TpmError(TPM_RC.FAILURE));
  const opener = {
    ecdhZGen: (point: { x: Buffer; y: Buffer }) => Promise.resolve(multiply(getCurve(TPM_ECC_CURVE.NIST_P256), transfer.d, point)),
    rsaDecrypt: refuse,
    secret: refuse,
  };
  const parameters = { hashAlg: NAME_ALG, symmetric: CIPHER };
  const seed = await decapsulate(opener, publicArea, 'DUPLICATE', outSymSeed);
  const inner = outerUnwrap(parameters, seed, name, duplicate);
  const clear = innerUnwrap(parameters, innerKey, name, inner);
  const area = decode(TPM2B_SENSITIVE, clear);
  if (area === null) throw new TpmError(TPM_RC.FAILURE);
  const secret = Buffer.from(area.sensitive);
  clear.fill(0);
  seed.fill(0);
  return secret;
}
