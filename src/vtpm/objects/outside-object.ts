// TPM 2.0 Library Part 3, 12.3 and 13.3: objects whose sensitive area comes from outside.
import { checkPublicArea, checkSensitiveArea } from '../../keys/key-binding.js';
import { TPM_ALG } from '../../tpm/constants/index.js';
import { digestSize } from '../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import type { TPMT_PUBLIC, TPMT_SENSITIVE } from '../../tpm/structures/index.js';
import type { Call } from '../dispatch/call.js';
import { checkPublicAttributes, checkScheme } from './template-checks.js';

/**
 * Checks the areas of an object against each other; `sensitive` is null if only the public part came. Errors carry the number of the
 * parameter that is called `publicParameter` or `sensitiveParameter`, or none if neither can be blamed.
 */
export function checkOutsideObject<P extends string>(
  call: Call<never, P>,
  publicParameter: P,
  publicArea: TPMT_PUBLIC,
  sensitiveParameter: P,
  sensitive: TPMT_SENSITIVE | null,
): void {
  const isNamed = publicArea.nameAlg !== TPM_ALG.NULL;
  if (sensitive !== null && isNamed && sensitive.seedValue.length > digestSize(publicArea.nameAlg)) {
    throw call.error(TPM_RC.KEY_SIZE, sensitiveParameter);
  }
  call.at(publicParameter, () => {
    if (sensitive === null || !isNamed) checkScheme(undefined, publicArea);
    else checkPublicAttributes(undefined, publicArea);
    checkPublicArea(publicArea, sensitive === null);
  });
  if (sensitive === null) return;
  try {
    checkSensitiveArea(publicArea, sensitive);
  } catch (error) {
    throw error instanceof TpmError && !blamesBoth(publicArea, error.code) ? call.error(error.code, sensitiveParameter) : error;
  }
}

/** Whether the fault is in how the two parts fit together, so that no parameter is named. */
function blamesBoth(publicArea: TPMT_PUBLIC, code: number): boolean {
  return code === TPM_RC.BINDING || (publicArea.type === TPM_ALG.ECC && code === TPM_RC.KEY_SIZE);
}
