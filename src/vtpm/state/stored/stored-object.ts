import type { KeyManagement } from '../../../keys/key-management.js';
import { type Infer, struct, tpm2b, uint32, uint8 } from '../../../tpm/schema.js';
import { TPMT_PUBLIC_PLUS } from '../../../tpm/structures/index.js';
import type { TpmObject } from '../object.js';

/** How an object is written: to a record, or into a saved context. Encryption is the writer's business. */
export const storedObject = struct({
  version: uint8,
  publicArea: TPMT_PUBLIC_PLUS,
  name: tpm2b(68),
  qualifiedName: tpm2b(68),
  hierarchy: uint32,
  authValue: tpm2b(64),
  flags: uint8,
  engineId: uint8,
  serialized: tpm2b(4096),
});
export type StoredObject = Infer<typeof storedObject>;

const FLAG = { external: 1, primary: 2, stClear: 4 } as const;
/** {@link StoredObject.engineId} of an object without a private part. */
const NO_ENGINE = 0;

/** An object as plain data. */
export function toStored(object: TpmObject): StoredObject {
  const { publicArea, name, qualifiedName, hierarchy, authValue, privatePart } = object;
  const flags = (object.external ? FLAG.external : 0) | (object.primary ? FLAG.primary : 0) | (object.stClear ? FLAG.stClear : 0);
  const engineId = privatePart?.engineId ?? NO_ENGINE;
  const serialized = privatePart?.serialize() ?? Buffer.alloc(0);
  return { version: 1, publicArea, name, qualifiedName, hierarchy, authValue, flags, engineId, serialized };
}

/** The object that {@link toStored} was given. Costs no hardware command. */
export function fromStored(stored: StoredObject, keys: KeyManagement): TpmObject {
  const { publicArea, name, qualifiedName, hierarchy, flags, engineId, serialized } = stored;
  return {
    kind: 'object',
    publicArea,
    name,
    qualifiedName,
    hierarchy,
    authValue: Buffer.from(stored.authValue),
    privatePart: engineId === NO_ENGINE ? undefined : keys.restore(engineId, publicArea, serialized),
    external: (flags & FLAG.external) !== 0,
    primary: (flags & FLAG.primary) !== 0,
    stClear: (flags & FLAG.stClear) !== 0,
  };
}
