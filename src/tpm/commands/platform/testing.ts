// TPM 2.0 Library Part 3, 10: testing.
import { command } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { TPM2B_MAX_BUFFER, TPMI_YES_NO, TPML_ALG, TPM_RC_FIELD } from '../../structures/index.js';

export const SelfTest = command(TPM_CC.SelfTest, 'SelfTest', { section: '10.2', in: { fullTest: TPMI_YES_NO }, nv: true });

export const IncrementalSelfTest = command(TPM_CC.IncrementalSelfTest, 'IncrementalSelfTest', {
  section: '10.3',
  in: { toTest: TPML_ALG },
  out: { toDoList: TPML_ALG },
  nv: true,
});

export const GetTestResult = command(TPM_CC.GetTestResult, 'GetTestResult', {
  section: '10.4',
  out: { outData: TPM2B_MAX_BUFFER, testResult: TPM_RC_FIELD },
});
