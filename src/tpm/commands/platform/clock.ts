// TPM 2.0 Library Part 3, 29: clocks and timers.
import { command, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint64 } from '../../schema.js';
import { TPMI_RH_PROVISION, TPMS_TIME_INFO, TPM_CLOCK_ADJUST_FIELD } from '../../structures/index.js';

export const ReadClock = command(TPM_CC.ReadClock, 'ReadClock', { section: '29.1', out: { currentTime: TPMS_TIME_INFO } });

export const ClockSet = command(TPM_CC.ClockSet, 'ClockSet', {
  section: '29.2',
  handles: { auth: user(TPMI_RH_PROVISION) },
  in: { newTime: uint64 },
  nv: true,
});

export const ClockRateAdjust = command(TPM_CC.ClockRateAdjust, 'ClockRateAdjust', {
  section: '29.3',
  handles: { auth: user(TPMI_RH_PROVISION) },
  in: { rateAdjust: TPM_CLOCK_ADJUST_FIELD },
});
