// TPM 2.0 Library Part 3, 10: testing. The algorithms are OpenSSL's, which tests itself when it is loaded: nothing is ever untested.
import type { GetTestResult, IncrementalSelfTest, SelfTest } from '../../../tpm/commands/index.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';
import { servedAlgorithms } from '../../capabilities/algorithms.js';

/** 10.2 */
const selfTest: Handler<typeof SelfTest> = ({ power }, _request, call) => {
  if (!power.failsSelfTest) return;
  power.failed = true;
  throw call.error(TPM_RC.FAILURE);
};

/** 10.3 */
const incrementalSelfTest: Handler<typeof IncrementalSelfTest> = (_tpm, { toTest }, call) => {
  const served = new Set(servedAlgorithms.map(({ alg }) => alg));
  if (!toTest.every((alg) => served.has(alg))) throw call.error(TPM_RC.VALUE, 'toTest');
  return { toDoList: [] };
};

/** 10.4: a TPM that failed answers TPM_RC_FAILURE before it comes here. */
const getTestResult: Handler<typeof GetTestResult> = () => ({ outData: Buffer.alloc(0), testResult: TPM_RC.SUCCESS });

export const testingHandlers = {
  SelfTest: selfTest,
  IncrementalSelfTest: incrementalSelfTest,
  GetTestResult: getTestResult,
} satisfies Partial<Handlers>;
