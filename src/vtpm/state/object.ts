// TPM 2.0 Library Part 1, 27: one object.
import type { PrivatePart } from '../../keys/engine.js';
import type { TPMT_PUBLIC } from '../../tpm/structures/index.js';

/** A loaded object: a key, sealed data, or the public part of one. */
export interface TpmObject {
  readonly kind: 'object';
  readonly publicArea: TPMT_PUBLIC;
  readonly name: Buffer;
  readonly qualifiedName: Buffer;
  /** Hierarchy that the object belongs to (TPM_RH_NULL for a temporary one). */
  readonly hierarchy: number;
  /** Without trailing zeros. */
  readonly authValue: Buffer;
  /** Undefined if only the public part is loaded. */
  readonly privatePart: PrivatePart | undefined;
  /** Loaded by LoadExternal: may not be a parent, certify nothing about its place. */
  readonly external: boolean;
  /** Made from a primary seed. */
  readonly primary: boolean;
  /** Dies with Startup(CLEAR): the object or an ancestor has `stClear`. */
  readonly stClear: boolean;
}
