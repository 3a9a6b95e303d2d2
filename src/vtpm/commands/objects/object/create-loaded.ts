// TPM 2.0 Library Part 3, 12.9: CreateLoaded, which makes a primary, an ordinary or a derived object, as its parent asks.
import { TPM_ALG, TPMA_OBJECT } from '../../../../tpm/constants/index.js';
import { encode, decode } from '../../../../tpm/schema.js';
import { TPM_RC } from '../../../../tpm/response-code.js';
import type * as Commands from '../../../../tpm/commands/index.js';
import { TPMS_DERIVE, TPMT_PUBLIC, TPMT_TEMPLATE_DERIVE } from '../../../../tpm/structures/index.js';
import type { CreatedKey } from '../../../../keys/engine.js';
import type { Call } from '../../../dispatch/call.js';
import type { Handler } from '../../../dispatch/handler.js';
import { checkAuthSize, createChild, makeObject, obtainPrimary, type Place } from '../../../objects/new-object.js';
import { checkCreation, checkPublicAttributes } from '../../../objects/template-checks.js';
import { isDerivationParent, isParent, privatePartOf } from '../../../state/objects.js';
import type { TpmObject } from '../../../state/object.js';
import type { Tpm } from '../../../tpm.js';

interface Sensitive {
  readonly userAuth: Buffer;
  readonly data: Buffer;
}

/** An object under a hierarchy or a storage key. */
async function createOrdinary(
  tpm: Tpm,
  call: Call<'parentHandle', 'inPublic' | 'inSensitive'>,
  parent: TpmObject | undefined,
  template: Buffer,
  sensitive: Sensitive,
): Promise<CreatedKey> {
  const publicArea = call.at('inPublic', () => decode(TPMT_PUBLIC, template));
  call.at('inSensitive', () => {
    checkAuthSize(sensitive.userAuth, publicArea.nameAlg);
  });
  call.at('inPublic', () => {
    checkCreation(parent, publicArea, sensitive.data.length);
  });
  if (parent !== undefined) return createChild(tpm, parent, publicArea, sensitive.data);
  return obtainPrimary(tpm, call.hierarchy('parentHandle'), publicArea, sensitive.data);
}

/** `unique` before the key exists. */
function emptyUnique(template: TPMT_TEMPLATE_DERIVE): TPMT_PUBLIC {
  const none = Buffer.alloc(0);
  return { ...template, unique: template.type === TPM_ALG.ECC ? { x: none, y: none } : none } as TPMT_PUBLIC;
}

/** An object that is a function of its parent's secret and a label and context (Part 1, 28). It is the software engine's. */
async function createDerived(
  tpm: Tpm,
  call: Call<never, 'inPublic' | 'inSensitive'>,
  parent: TpmObject,
  template: Buffer,
  sensitive: Sensitive,
): Promise<CreatedKey> {
  const derived = call.at('inPublic', () => decode(TPMT_TEMPLATE_DERIVE, template));
  const publicArea = emptyUnique(derived);
  call.at('inSensitive', () => {
    checkAuthSize(sensitive.userAuth, publicArea.nameAlg);
  });
  if (publicArea.type === TPM_ALG.RSA) throw call.error(TPM_RC.TYPE, 'inPublic');
  if ((publicArea.objectAttributes & TPMA_OBJECT.sensitiveDataOrigin) !== 0) throw call.error(TPM_RC.ATTRIBUTES);
  call.at('inPublic', () => {
    checkPublicAttributes(parent, publicArea);
  });
  const given = sensitive.data.length === 0 ? undefined : decode(TPMS_DERIVE, sensitive.data);
  const context = encode(TPMS_DERIVE, {
    label: derived.unique.label.length > 0 ? derived.unique.label : (given?.label ?? Buffer.alloc(0)),
    context: derived.unique.context.length > 0 ? derived.unique.context : (given?.context ?? Buffer.alloc(0)),
  });
  const { sensitive: seed } = await privatePartOf(parent).secret();
  try {
    return await tpm.keys.software.create({ publicArea, sensitiveData: Buffer.alloc(0), derivation: { seed, context } });
  } finally {
    seed.fill(0);
  }
}

/** 12.9 */
export const createLoaded: Handler<typeof Commands.CreateLoaded> = async (tpm, { inSensitive, inPublic }, call) => {
  const entity = call.entity('parentHandle');
  const parent = entity.kind === 'hierarchy' ? undefined : call.object('parentHandle', TPM_RC.TYPE);
  const derivation = parent !== undefined && isDerivationParent(parent);
  if (parent !== undefined && !derivation && !isParent(parent)) throw call.error(TPM_RC.TYPE, 'parentHandle');
  tpm.objects.requireSlot();
  const create = derivation
    ? createDerived(tpm, call, parent, inPublic, inSensitive)
    : createOrdinary(tpm, call, parent, inPublic, inSensitive);
  const { publicArea, privatePart } = await create;
  const place: Place = parent === undefined ? { hierarchy: entity.handle, primary: true, external: false } : { parent };
  const object = makeObject(place, publicArea, inSensitive.userAuth, privatePart);
  const ordinary = parent !== undefined && !derivation;
  const outPrivate = ordinary ? tpm.keys.wrap({ ...object, privatePart }, parent.name) : Buffer.alloc(0);
  return { objectHandle: tpm.objects.add(object), outPrivate, outPublic: publicArea, name: object.name };
};
