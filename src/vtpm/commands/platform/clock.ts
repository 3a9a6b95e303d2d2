// TPM 2.0 Library Part 3, 29: clocks and timers.
import type { ClockRateAdjust, ClockSet, ReadClock } from '../../../tpm/commands/index.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import { clockInfo } from '../../signing/attestation.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';

/** The latest time that Clock can be set to. */
const MAX_CLOCK = 0xffff_0000_0000_0000n;

/** 29.1 */
const readClock: Handler<typeof ReadClock> = (tpm) => ({ currentTime: { time: tpm.clock.time, clockInfo: clockInfo(tpm) } });

/** 29.2 */
const clockSet: Handler<typeof ClockSet> = ({ clock }, { newTime }, call) => {
  if (newTime > MAX_CLOCK || newTime < clock.clock) throw call.error(TPM_RC.VALUE, 'newTime');
  clock.set(newTime);
};

/** 29.3 */
const clockRateAdjust: Handler<typeof ClockRateAdjust> = ({ clock }, { rateAdjust }) => {
  clock.adjustRate(rateAdjust);
};

export const clockHandlers = { ReadClock: readClock, ClockSet: clockSet, ClockRateAdjust: clockRateAdjust } satisfies Partial<Handlers>;
