// TPM 2.0 Library Part 1, 27: making the object that the TPM holds out of a key.
import type { CreatedKey, PrivatePart } from '../../keys/engine.js';
import { TPM_RH, TPMA_OBJECT } from '../../tpm/constants/index.js';
import { digestSize } from '../../tpm/hash.js';
import { nameOfHandle, nameOfPublic, qualifiedName } from '../../tpm/name.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { encode } from '../../tpm/schema.js';
import { trimAuth } from '../../tpm/session-crypto.js';
import { TPMT_PUBLIC } from '../../tpm/structures/index.js';
import type { Hierarchy } from '../state/hierarchies.js';
import type { TpmObject } from '../state/object.js';
import type { Tpm } from '../tpm.js';

/** Where an object has its place: under a parent object, or directly under a hierarchy. */
export type Place = { readonly parent: TpmObject } | { readonly hierarchy: number; readonly primary: boolean; readonly external: boolean };

/** An object with Name, Qualified Name and inherited attributes. `authValue` is copied. */
export function makeObject(place: Place, publicArea: TPMT_PUBLIC, authValue: Buffer, privatePart: PrivatePart | undefined): TpmObject {
  const name = nameOfPublic(publicArea);
  const parent = 'parent' in place ? place.parent : undefined;
  const hierarchy = 'parent' in place ? place.parent.hierarchy : place.hierarchy;
  const external = 'external' in place && place.external;
  return {
    kind: 'object',
    publicArea,
    name,
    qualifiedName: external ? name : qualifiedName(parent?.qualifiedName ?? nameOfHandle(hierarchy), name, publicArea.nameAlg),
    hierarchy,
    authValue: Buffer.from(trimAuth(authValue)),
    privatePart,
    external,
    primary: 'primary' in place && place.primary,
    stClear: (publicArea.objectAttributes & TPMA_OBJECT.stClear) !== 0 || parent?.stClear === true,
  };
}

/** An object's authValue must not be longer than a digest of its nameAlg: `TPM_RC_SIZE`, bare. */
export function checkAuthSize(authValue: Buffer, nameAlg: number): void {
  const largest = digestSize(nameAlg);
  if (largest > 0 && trimAuth(authValue).length > largest) throw new TpmError(TPM_RC.SIZE);
}

/**
 * The primary key of a hierarchy for this template: the same each time, until the hierarchy's seed changes (Part 1, 14.5). Data that comes
 * with `sensitiveDataOrigin` is not the key's secret, but makes it another key.
 */
export async function obtainPrimary(tpm: Tpm, hierarchy: Hierarchy, publicArea: TPMT_PUBLIC, data: Buffer): Promise<CreatedKey> {
  const sensitiveData = (publicArea.objectAttributes & TPMA_OBJECT.sensitiveDataOrigin) !== 0 ? Buffer.alloc(0) : data;
  if (hierarchy.handle === TPM_RH.NULL) {
    const context = Buffer.concat([encode(TPMT_PUBLIC, publicArea), data]);
    return tpm.keys.software.create({ publicArea, sensitiveData, derivation: { seed: hierarchy.seed, context } });
  }
  return tpm.primaries.obtain(hierarchy, publicArea, data, () =>
    tpm.keys.engineFor(publicArea, hierarchy.handle).create({ publicArea, sensitiveData }),
  );
}

/** A new random key for a child of `parent`. Children of the NULL hierarchy die with a reset and so never reach the chip. */
export function createChild(tpm: Tpm, parent: TpmObject, publicArea: TPMT_PUBLIC, sensitiveData: Buffer): Promise<CreatedKey> {
  return tpm.keys.engineFor(publicArea, parent.hierarchy).create({ publicArea, sensitiveData });
}
