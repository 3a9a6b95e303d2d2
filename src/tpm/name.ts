// TPM 2.0 Library Part 1, 16: Names of entities.
import { hash, isHashAlg } from './hash.js';
import { encode } from './schema.js';
import { TPMS_NV_PUBLIC, TPMT_PUBLIC_PLUS, type TPMT_PUBLIC } from './structures/index.js';
import { uint16Bytes, uint32Bytes } from './wire.js';

/** `nameAlg || H_nameAlg(parts)`; empty if `nameAlg` is NULL. */
function digestName(nameAlg: number, ...parts: readonly Uint8Array[]): Buffer {
  return isHashAlg(nameAlg) ? Buffer.concat([uint16Bytes(nameAlg), hash(nameAlg, ...parts)]) : Buffer.alloc(0);
}

/** Name of an object: `nameAlg || H_nameAlg(TPMT_PUBLIC)`; empty if its `nameAlg` is NULL. */
export function nameOfPublic(publicArea: TPMT_PUBLIC): Buffer {
  return digestName(publicArea.nameAlg, encode(TPMT_PUBLIC_PLUS, publicArea));
}

/** Name of an NV index: `nameAlg || H_nameAlg(TPMS_NV_PUBLIC)`. */
export function nameOfNvPublic(nvPublic: TPMS_NV_PUBLIC): Buffer {
  return digestName(nvPublic.nameAlg, encode(TPMS_NV_PUBLIC, nvPublic));
}

/** Name of a PCR, session or permanent entity: its handle, 4 bytes. */
export function nameOfHandle(handle: number): Buffer {
  return uint32Bytes(handle);
}

/**
 * Qualified Name of an object: `nameAlg || H_nameAlg(parentQualifiedName || name)`, with the object's `nameAlg`; a hierarchy's is its
 * handle. Empty if `nameAlg` is NULL.
 */
export function qualifiedName(parentQualifiedName: Uint8Array, name: Uint8Array, nameAlg: number): Buffer {
  return digestName(nameAlg, parentQualifiedName, name);
}
