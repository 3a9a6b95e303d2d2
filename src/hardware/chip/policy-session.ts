// TPM 2.0 Library Part 3, 11.1: policy sessions of ours with the chip.
import { randomBytes } from 'node:crypto';
import { StartAuthSession } from '../../tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SE } from '../../tpm/constants/index.js';
import { flushedAfter, type CommandSender } from './sender.js';

const NO_CIPHER = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const NONE = Buffer.alloc(0);

/** What `use` does with a policy session with SHA-256 that is neither salted nor bound, and flushed after that. Part of a turn; two commands. */
export async function withPolicySession<T>(sender: CommandSender, use: (policySession: number) => Promise<T>): Promise<T> {
  const request = {
    tpmKey: TPM_RH.NULL,
    bind: TPM_RH.NULL,
    nonceCaller: randomBytes(32),
    encryptedSalt: NONE,
    sessionType: TPM_SE.POLICY,
    symmetric: NO_CIPHER,
    authHash: TPM_ALG.SHA256,
  };
  const { sessionHandle } = await sender.execute(StartAuthSession, request);
  return await flushedAfter(sender, sessionHandle, () => use(sessionHandle));
}
