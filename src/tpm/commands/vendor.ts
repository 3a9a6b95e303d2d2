// TPM 2.0 Library Part 3, 34: vendor-specific commands.
import { command } from '../command.js';
import { TPM_CC } from '../constants/index.js';
import { TPM2B_DATA } from '../structures/index.js';

export const Vendor_TCG_Test = command(TPM_CC.Vendor_TCG_Test, 'Vendor_TCG_Test', {
  section: '34.2',
  in: { inputData: TPM2B_DATA },
  out: { outputData: TPM2B_DATA },
});
