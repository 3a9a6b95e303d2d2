// A secret of the host that only its chip can tell: what tpmux proves to itself that the store is its own with.
import { randomBytes } from 'node:crypto';
import { Unseal } from '../../tpm/commands/index.js';
import type { Account } from '../turns/usage.js';
import { createUnder, loadable, type KeyBlobs } from './create-key.js';
import type { HostRoot } from './keys.js';
import type { ChipJobs } from '../turns/jobs.js';
import { sealedPublic } from './templates.js';

const SECRET_SIZE = 32;

/** Seals a new secret of 32 bytes below the host root. */
export function createHostSecret(jobs: ChipJobs, account: Account, hostRoot: HostRoot): Promise<KeyBlobs> {
  return jobs.run(account, async () => {
    const sensitive = { authValue: Buffer.alloc(0), data: randomBytes(SECRET_SIZE) };
    try {
      return await createUnder(jobs.chip, account, hostRoot, sealedPublic(hostRoot.publicArea), sensitive);
    } finally {
      sensitive.data.fill(0);
    }
  });
}

/** The secret; whoever gets it zeroizes it. Rejects as chip commands do; the codec's `TPM_RC_*` if these are no blobs. */
export function openHostSecret(jobs: ChipJobs, account: Account, hostRoot: HostRoot, blobs: KeyBlobs): Promise<Buffer> {
  const key = loadable(blobs, hostRoot);
  return jobs.run(account, () =>
    jobs.slots.use(key, account, async (itemHandle) => {
      const { outData } = await jobs.chip.execute(Unseal, { itemHandle }, { account, names: [key.name] });
      return outData;
    }),
  );
}
