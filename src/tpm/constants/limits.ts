// TPM 2.0 Library Part 2, annex A: values that an implementation chooses. Buffer sizes are those of libtpms, so that a
// guest that moves between it and us meets the same limits.

/** PCRs of a bank. */
export const IMPLEMENTATION_PCR = 24;
/** Bytes of a PCR bit map: exactly this many are accepted. */
export const PCR_SELECT_MAX = 3;
/** Fewest bytes of a PCR bit map. */
export const PCR_SELECT_MIN = 3;
/** Hash algorithms, and so PCR banks and entries of a `TPML_DIGEST_VALUES`. */
export const HASH_COUNT = 4;

/** Bytes of the name of a property provider (vendor commands). */
export const MAX_PROVIDER_NAME = 32;
/** Property providers that one response of a vendor command lists. */
export const MAX_PROVIDER_LIST = 32;

/** Bytes of the largest digest (SHA-512). */
export const MAX_DIGEST_SIZE = 64;
/** Bytes of a `TPM2B_MAX_BUFFER`. */
export const MAX_DIGEST_BUFFER = 1024;
/** Bytes of a `TPM2B_MAX_NV_BUFFER`: what one `NV_Read` or `NV_Write` moves. */
export const MAX_NV_BUFFER_SIZE = 1024;
/** Bytes of the largest NV index. */
export const MAX_NV_INDEX_SIZE = 2048;
/** Bytes of a sealed secret (`TPM2B_SENSITIVE_DATA`). */
export const MAX_SYM_DATA = 128;
/** Bytes of the largest symmetric key. */
export const MAX_SYM_KEY_BYTES = 32;
/** Bytes of the largest cipher block. */
export const MAX_SYM_BLOCK_SIZE = 16;
/** Bytes of the largest RSA modulus of a guest. */
export const MAX_RSA_KEY_BYTES = 384;
/** Bytes of the largest RSA private key: the five numbers of the CRT form. */
export const RSA_PRIVATE_SIZE = (MAX_RSA_KEY_BYTES * 5) / 2;
/** Bytes of the largest ECC coordinate (BN_P638). */
export const MAX_ECC_KEY_BYTES = 80;
/** Bytes of a derivation label or context. */
export const LABEL_MAX_BUFFER = 32;
/** Bytes of a `TPM2B_PRIVATE`. */
export const MAX_PRIVATE_SIZE = 1536;
/** Bytes of a `TPM2B_CONTEXT_DATA`. */
export const MAX_CONTEXT_SIZE = 4096;

/** Bytes of the data of a `GetCapability` response. */
export const MAX_CAP_BUFFER = 1024;
/** Bytes of a `TPMS_CAPABILITY_DATA` that are left for list elements: the rest is the capability and the count. */
export const MAX_CAP_DATA = MAX_CAP_BUFFER - 8;
export const MAX_CAP_ALGS = Math.floor(MAX_CAP_DATA / 6);
export const MAX_CAP_HANDLES = Math.floor(MAX_CAP_DATA / 4);
export const MAX_CAP_CC = Math.floor(MAX_CAP_DATA / 4);
export const MAX_TPM_PROPERTIES = Math.floor(MAX_CAP_DATA / 8);
export const MAX_PCR_PROPERTIES = Math.floor(MAX_CAP_DATA / 8);
export const MAX_ECC_CURVES = Math.floor(MAX_CAP_DATA / 2);
export const MAX_TAGGED_POLICIES = Math.floor(MAX_CAP_DATA / 70);
export const MAX_ACT_DATA = Math.floor(MAX_CAP_DATA / 12);
export const MAX_AC_CAPABILITIES = Math.floor(MAX_CAP_BUFFER / 8);
/** Elements of a `TPML_ALG`. */
export const MAX_ALG_LIST_SIZE = 64;

/** Sessions of a command. */
export const MAX_SESSION_NUM = 3;
/** Handles of a command. */
export const MAX_HANDLE_NUM = 3;
/**
 * Ceiling of the sessions that may exist, loaded or saved: a session handle beyond it is `TPM_RC_VALUE`. How many a guest
 * has is its own limit, which is not above this.
 */
export const MAX_ACTIVE_SESSIONS = 256;
/** Ceiling of the objects and sequences in memory: a transient handle beyond it is `TPM_RC_VALUE`. As for sessions. */
export const MAX_LOADED_OBJECTS = 256;
/** Bytes of the largest command and response. */
export const MAX_COMMAND_SIZE = 4096;
export const MAX_RESPONSE_SIZE = 4096;
/** Bytes that TPM_PT_MAX_OBJECT_CONTEXT is less than the largest response: the header and the context's head. */
export const CONTEXT_OVERHEAD = 28;
/** Bytes of a hierarchy's primary seed and proof. */
export const PRIMARY_SEED_SIZE = 64;
/** Localities, 0 to 4. */
export const NUM_LOCALITIES = 5;
/** First PCR of a dynamic root of trust. */
export const DRTM_PCR = 17;
/** PCR of a hardware core root of trust. */
export const HCRTM_PCR = 0;

/** `TPM_GENERATED_VALUE` (Part 2, 6.2): magic number of structures that a TPM made, `FF 'TCG'`. */
export const TPM_GENERATED = 0xff544347;
/** `TPM_SPEC_FAMILY` (Part 2, 6.1): `2.0` with a final zero. */
export const TPM_SPEC_FAMILY = 0x322e3000;
/** Revision of the library specification, times 100 (`TPM_SPEC_VERSION`). */
export const TPM_SPEC_VERSION = 159;
export const TPM_SPEC_LEVEL = 0;
export const TPM_SPEC_YEAR = 2019;
export const TPM_SPEC_DAY_OF_YEAR = 312;
