// TPM 2.0 Library Part 2, 13: NV storage.
import { MAX_NV_INDEX_SIZE } from '../constants/index.js';
import { TPM_RC } from '../response-code.js';
import { checked, type Infer, type Schema, sized, struct, uint16, uint32 } from '../schema.js';
import { TPMI_ALG_HASH } from './algorithms.js';
import { TPMA_NV_FIELD } from './constants.js';
import { TPM2B_DIGEST } from './digests.js';
import { TPMI_RH_NV_INDEX } from './handles.js';

/** Content of a PIN index: 8 bytes (Part 2, 13.3). */
export const TPMS_NV_PIN_COUNTER_PARAMETERS = struct({ pinCount: uint32, pinLimit: uint32 });
export type TPMS_NV_PIN_COUNTER_PARAMETERS = Infer<typeof TPMS_NV_PIN_COUNTER_PARAMETERS>;

const dataSize: Schema<number> = {
  ...checked(uint16, (size) => size <= MAX_NV_INDEX_SIZE, TPM_RC.SIZE),
  shape: { kind: 'integer', bytes: 2, ranges: [[0, MAX_NV_INDEX_SIZE]] },
};
/** Public area of an NV index; `dataSize` is in bytes, at most {@link MAX_NV_INDEX_SIZE}, else `TPM_RC_SIZE` (Part 2, 13.5). */
export const TPMS_NV_PUBLIC = struct({
  nvIndex: TPMI_RH_NV_INDEX,
  nameAlg: TPMI_ALG_HASH,
  attributes: TPMA_NV_FIELD,
  authPolicy: TPM2B_DIGEST,
  dataSize,
});
export type TPMS_NV_PUBLIC = Infer<typeof TPMS_NV_PUBLIC>;
export const TPM2B_NV_PUBLIC = sized(TPMS_NV_PUBLIC);
