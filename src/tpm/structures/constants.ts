// TPM 2.0 Library Part 2, 6 to 8: the fields that hold a constant or an attribute. The constants themselves have the
// specification's names (`TPM_SU`, `TPMA_NV`), so the schemas of the fields that hold them end in `_FIELD`.
import {
  definedBits,
  TPM_CAP,
  TPM_CLOCK_ADJUST,
  TPM_ECC_CURVE,
  TPM_EO,
  TPM_SE,
  TPM_ST,
  TPM_SU,
  TPMA_ACT,
  TPMA_ALGORITHM,
  TPMA_CC,
  TPMA_NV,
  TPMA_OBJECT,
  TPMA_SESSION,
} from '../constants/index.js';
import { TPM_RC } from '../response-code.js';
import { bits, oneOf, type Schema, uint16, uint32, uint8 } from '../schema.js';

/** Signed 8 bits. */
export const int8: Schema<number> = {
  decode: (r) => (r.uint8() << 24) >> 24,
  encode: (w, v) => {
    w.uint8(v & 0xff);
  },
  shape: { kind: 'integer', bytes: 1 },
};

/** Any algorithm identifier (Part 2, 6.3). */
export const TPM_ALG_ID: Schema<number> = uint16;
/** Any handle (Part 2, 7.1). */
export const TPM_HANDLE: Schema<number> = uint32;
/** Any key size in bits (Part 2, 5.3). */
export const TPM_KEY_BITS: Schema<number> = uint16;

/** {@link TPM_ECC_CURVE}, `NONE` included; else `TPM_RC_CURVE`. */
export const TPM_ECC_CURVE_FIELD = oneOf(uint16, Object.values(TPM_ECC_CURVE), TPM_RC.CURVE);
/** Any command code (Part 2, 6.5). */
export const TPM_CC_FIELD: Schema<number> = uint32;
/** Any response code (Part 2, 6.6). */
export const TPM_RC_FIELD: Schema<number> = uint32;
/** {@link TPM_CLOCK_ADJUST}; else `TPM_RC_VALUE`. */
export const TPM_CLOCK_ADJUST_FIELD: Schema<TPM_CLOCK_ADJUST> = {
  ...oneOf(int8, Object.values(TPM_CLOCK_ADJUST), TPM_RC.VALUE),
  shape: { kind: 'integer', bytes: 1, values: Object.values(TPM_CLOCK_ADJUST).map((step) => step & 0xff) },
};
/** {@link TPM_EO}; else `TPM_RC_VALUE`. */
export const TPM_EO_FIELD = oneOf(uint16, Object.values(TPM_EO), TPM_RC.VALUE);
/** {@link TPM_ST}; else `TPM_RC_VALUE`. */
export const TPM_ST_FIELD: Schema<number> = oneOf<number>(uint16, Object.values(TPM_ST), TPM_RC.VALUE);
/** {@link TPM_SU}; else `TPM_RC_VALUE`. */
export const TPM_SU_FIELD = oneOf(uint16, Object.values(TPM_SU), TPM_RC.VALUE);
/** {@link TPM_SE}; else `TPM_RC_VALUE`. */
export const TPM_SE_FIELD = oneOf(uint8, Object.values(TPM_SE), TPM_RC.VALUE);
/** {@link TPM_CAP}; else `TPM_RC_VALUE`. */
export const TPM_CAP_FIELD = oneOf(uint32, Object.values(TPM_CAP), TPM_RC.VALUE);
/** Any property (Part 2, 6.13). */
export const TPM_PT_FIELD: Schema<number> = uint32;
/** Any property of PCRs (Part 2, 6.14). */
export const TPM_PT_PCR_FIELD: Schema<number> = uint32;

/** {@link TPMA_ALGORITHM}. */
export const TPMA_ALGORITHM_FIELD = bits(uint32, definedBits(TPMA_ALGORITHM));
/** {@link TPMA_OBJECT}. */
export const TPMA_OBJECT_FIELD = bits(uint32, definedBits(TPMA_OBJECT));
/** {@link TPMA_SESSION}. */
export const TPMA_SESSION_FIELD = bits(uint8, definedBits(TPMA_SESSION));
/** `TPMA_LOCALITY`: every value means something. */
export const TPMA_LOCALITY_FIELD: Schema<number> = uint8;
/** {@link TPMA_CC}. */
export const TPMA_CC_FIELD = bits(uint32, definedBits(TPMA_CC));
/** {@link TPMA_NV}. */
export const TPMA_NV_FIELD = bits(uint32, definedBits(TPMA_NV));
/** {@link TPMA_ACT}. */
export const TPMA_ACT_FIELD = bits(uint32, definedBits(TPMA_ACT));

/** 0 or 1 (Part 2, 9.2); else `TPM_RC_VALUE`. */
export const TPMI_YES_NO = oneOf(uint8, [0, 1], TPM_RC.VALUE);
export type TPMI_YES_NO = 0 | 1;
/** `NO` and `YES` of a {@link TPMI_YES_NO}. */
export const NO = 0;
export const YES = 1;
