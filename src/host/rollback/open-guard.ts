// The guard against older copies of the state, on the chip's counter and the host's secret.
import { hkdfSync } from 'node:crypto';
import { reasonOf } from '../../failure.js';
import { ChipError, HostKeyError } from '../../hardware/chip/errors.js';
import type { Hardware } from '../../hardware/hardware.js';
import { DEFAULT_COUNTER_INDEX } from '../../hardware/host/counter.js';
import type { HostStore } from '../../store/host-store.js';
import type { Config } from '../../config/config.js';
import type { Logger } from '../../logger.js';
import { RollbackGuard, type RollbackEvent } from './guard.js';
import { LeaseSeal } from './lease.js';

const AUTH_SIZE = 32;

/** What {@link openRollbackGuard} needs. */
export interface RollbackRequest {
  readonly hardware: Hardware;
  /** The host's secret, 32 bytes; no view of it is kept. */
  readonly secret: Buffer;
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
  const { hardware, secret, ownerAuth, store, config, log, onDetected } = request;
  const allow = config.whenRollback === 'allow';
  try {
    const authValue = Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), 'tpmux host counter', AUTH_SIZE));
    const counter = hardware.counter({ authValue, ownerAuth });
    const firstIndex = config.counterIndex ?? DEFAULT_COUNTER_INDEX;
    const seal = new LeaseSeal(secret);
    return await RollbackGuard.open({ store, counter, seal, log, firstIndex, allow, interval: config.counterInterval, onDetected });
  } catch (error) {
    if (!allow || !(error instanceof HostKeyError || error instanceof ChipError)) throw error;
    log.error('OLDER COPIES OF THE STATE CANNOT BE TOLD: the TPM has no counter for it', { reason: reasonOf(error) });
    return undefined;
  }
}
