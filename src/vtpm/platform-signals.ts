// What the platform port of the simulator changes in a TPM that has power (TPMCmdp.c of the reference implementation).
import type { PlatformSignal } from './guest-tpm.js';
import type { Tpm } from './tpm.js';

/** Applies one signal. */
export function applySignal(tpm: Tpm, signal: PlatformSignal): void {
  switch (signal) {
    case 'nv on':
    case 'nv off':
      tpm.durable.available = signal === 'nv on';
      return;
    case 'presence on':
    case 'presence off':
      tpm.presence.asserted = signal === 'presence on';
      return;
    case 'restart timer':
      tpm.clock.powerOn();
      return;
    case 'fail self-test':
      tpm.power.failsSelfTest = true;
  }
}

/** What was signaled is not undone with a command that failed. */
export function keepSignals(from: Tpm, to: Tpm): void {
  to.durable.available = from.durable.available;
  to.presence.asserted = from.presence.asserted;
  to.power.failsSelfTest = from.power.failsSelfTest;
}
