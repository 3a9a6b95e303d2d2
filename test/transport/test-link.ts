// What a transport gets of a guest, for tests of a transport alone.
import { ControlLock } from '../../src/transport/control/lock.js';
import { DEFAULT_LIMITS, type GuestLink, type Rejection, type TransportLimits } from '../../src/transport/guest-link.js';
import type { GuestTpm } from '../../src/vtpm/guest-tpm.js';

export interface TestLink extends GuestLink {
  readonly rejections: Rejection[];
  readonly defects: unknown[];
}

export function testLink(tpm: GuestTpm, limits: Partial<TransportLimits> = {}): TestLink {
  const rejections: Rejection[] = [];
  const defects: unknown[] = [];
  return {
    name: 'g',
    tpm,
    description: { revision: 159, manufacturer: 'TEST', firmwareVersion: 0x10002, model: 'm' },
    limits: { ...DEFAULT_LIMITS, ...limits },
    locality: 0,
    incoming: false,
    lock: new ControlLock(),
    remember: () => undefined,
    rejections,
    defects,
    onRejection: (reason) => {
      rejections.push(reason);
    },
    onRefusedState: () => undefined,
    onWaiting: () => undefined,
    onDefect: (error) => {
      defects.push(error);
    },
  };
}
