// TPM 2.0 Library Part 3, 16: random number generator.
import { command } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint16 } from '../../schema.js';
import { TPM2B_DIGEST, TPM2B_SENSITIVE_DATA } from '../../structures/index.js';

export const GetRandom = command(TPM_CC.GetRandom, 'GetRandom', {
  section: '16.1',
  in: { bytesRequested: uint16 },
  out: { randomBytes: TPM2B_DIGEST },
});

export const StirRandom = command(TPM_CC.StirRandom, 'StirRandom', { section: '16.2', in: { inData: TPM2B_SENSITIVE_DATA }, nv: true });
