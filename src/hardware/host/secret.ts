// A secret of the host that only its chip can tell: what tpmux proves to itself that the store is its own with.
import { randomBytes } from 'node:crypto';
import { Unseal } from '../../tpm/commands/index.js';
import { createUnder, loadable, type KeyBlobs } from './create-key.js';
import type { HostRoot } from './keys.js';
import type { Turn } from '../turns/turn.js';
import { sealedPublic } from './templates.js';

const SECRET_SIZE = 32;

/** Seals a new secret of 32 bytes below the host root. Part of a turn. */
export async function createHostSecret(turn: Turn, hostRoot: HostRoot): Promise<KeyBlobs> {
  const sensitive = { authValue: Buffer.alloc(0), data: randomBytes(SECRET_SIZE) };
  try {
    return await createUnder(turn, hostRoot, sealedPublic(hostRoot.publicArea), sensitive);
  } finally {
    sensitive.data.fill(0);
  }
}

/**
 * The secret; whoever gets it zeroizes it. Rejects as chip commands do; the codec's `TPM_RC_*` if these are no blobs. Part of a turn.
 */
export function openHostSecret(turn: Turn, hostRoot: HostRoot, blobs: KeyBlobs): Promise<Buffer> {
  const key = loadable(blobs, hostRoot);
  return turn.use(key, async (itemHandle) => {
    const { outData } = await turn.execute(Unseal, { itemHandle }, { names: [key.name] });
    return outData;
  });
}
