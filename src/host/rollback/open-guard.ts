// The guard against older copies of the state, on the chip's counter and the host's secret.
import { hkdfSync } from 'node:crypto';
import * as v from 'valibot';
import { reasonOf } from '../../failure.js';
import { ChipError, HostKeyError } from '../../hardware/chip/errors.js';
import type { Hardware } from '../../hardware/hardware.js';
import { DEFAULT_COUNTER_INDEX, HostCounter } from '../../hardware/host/counter.js';
import { createHostSecret, openHostSecret } from '../../hardware/host/secret.js';
import type { KeyBlobs } from '../../hardware/host/create-key.js';
import { readHostRecord, writeHostRecord } from '../../store/host-record.js';
import type { HostStore } from '../../store/host-store.js';
import type { Config } from '../../config/config.js';
import type { Logger } from '../../logger.js';
import { RollbackGuard, type RollbackEvent } from './guard.js';
import { LeaseSeal } from './lease.js';

/** Host record with the secret's blobs. */
export const SECRET_RECORD = 'host-secret';
const AUTH_SIZE = 32;

/** What {@link openRollbackGuard} needs. */
export interface RollbackRequest {
  readonly hardware: Hardware;
  /** Authorization value of the owner hierarchy; needed when the counter is made. */
  readonly ownerAuth: Buffer;
  readonly store: HostStore;
  readonly config: Pick<Config, 'whenRollback' | 'counterIndex' | 'counterInterval'>;
  readonly log: Logger;
  readonly onDetected?: ((event: RollbackEvent) => void | Promise<void>) | undefined;
}

/**
 * Opens the guard; undefined where the chip has no counter for it and what it detects would be let pass anyhow. Rejects with a `Failure`
 * (exit code 3) if the store is an older copy, and as the chip does.
 */
export async function openRollbackGuard(request: RollbackRequest): Promise<RollbackGuard | undefined> {
  const { hardware, ownerAuth, store, config, log, onDetected } = request;
  const allow = config.whenRollback === 'allow';
  const secret = await hostSecret(hardware, store);
  try {
    const counter = new HostCounter({
      jobs: hardware.jobs,
      account: hardware.hostAccount,
      authValue: Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), 'tpmux host counter', AUTH_SIZE)),
      owner: [hardware.hostRoot.name, hardware.migrationAuthority.name],
      ownerAuth,
    });
    const firstIndex = config.counterIndex ?? DEFAULT_COUNTER_INDEX;
    const seal = new LeaseSeal(secret);
    return await RollbackGuard.open({ store, counter, seal, log, firstIndex, allow, interval: config.counterInterval, onDetected });
  } catch (error) {
    if (!allow || !(error instanceof HostKeyError || error instanceof ChipError)) throw error;
    log.error('OLDER COPIES OF THE STATE CANNOT BE TOLD: the TPM has no counter for it', { reason: reasonOf(error) });
    return undefined;
  } finally {
    secret.fill(0);
  }
}

/** The secret that only this host's chip can tell; made at the first start. */
async function hostSecret({ jobs, hostAccount, hostRoot }: Hardware, store: HostStore): Promise<Buffer> {
  const stored = readHostRecord(store, SECRET_RECORD, secretBlobs);
  if (stored !== undefined) return await openHostSecret(jobs, hostAccount, hostRoot, keyBlobs(stored));
  const blobs = await createHostSecret(jobs, hostAccount, hostRoot);
  await writeHostRecord(store, SECRET_RECORD, {
    public: blobs.publicArea.toString('base64'),
    private: blobs.privateBlob.toString('base64'),
  });
  return await openHostSecret(jobs, hostAccount, hostRoot, blobs);
}

const base64 = v.pipe(v.string(), v.base64());
const secretBlobs = v.strictObject({ public: base64, private: base64 });

function keyBlobs(stored: v.InferOutput<typeof secretBlobs>): KeyBlobs {
  return { publicArea: Buffer.from(stored.public, 'base64'), privateBlob: Buffer.from(stored.private, 'base64') };
}
