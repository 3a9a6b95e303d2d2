// TPM 2.0 Library Part 3, 12: object commands.
import { openCredential, makeCredential } from '../../../../crypto/credential.js';
import { decapsulate } from '../../../../crypto/secrets.js';
import type { PrivatePart } from '../../../../keys/engine.js';
import { TPM_ALG, TPM_RH, TPMA_OBJECT } from '../../../../tpm/constants/index.js';
import { digestSize } from '../../../../tpm/hash.js';
import { nameOfPublic, qualifiedName } from '../../../../tpm/name.js';
import { TPM_RC } from '../../../../tpm/response-code.js';
import { trimAuth } from '../../../../tpm/session-crypto.js';
import type { TPMT_PUBLIC, TPMT_SENSITIVE } from '../../../../tpm/structures/index.js';
import type { Call } from '../../../dispatch/call.js';
import type { Handlers } from '../../../dispatch/handler.js';
import { describeCreation } from '../../../objects/creation.js';
import { checkAuthSize, createChild, makeObject } from '../../../objects/new-object.js';
import { checkOutsideObject } from '../../../objects/outside-object.js';
import { checkCreation, checkPublicAttributes } from '../../../objects/template-checks.js';
import { hasAttribute, isParent, privatePartOf } from '../../../state/objects.js';
import type { TpmObject } from '../../../state/object.js';
import type { Tpm } from '../../../tpm.js';
import { createLoaded } from './create-loaded.js';

const STORAGE = TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt;

/** A restricted asymmetric decryption key, which credentials are protected with. `TPM_RC_TYPE` otherwise. */
function requireCredentialKey<H extends string>(call: Call<H>, where: H): TpmObject {
  const object = call.object(where, TPM_RC.TYPE);
  const asymmetric = object.publicArea.type === TPM_ALG.RSA || object.publicArea.type === TPM_ALG.ECC;
  if (!asymmetric || !hasAttribute(object, STORAGE)) throw call.error(TPM_RC.TYPE, where);
  return object;
}

/** Checks what LoadExternal was given and makes the private part, if there is one. */
function externalPart(
  tpm: Tpm,
  call: Call<never, 'inPublic' | 'inPrivate'>,
  publicArea: TPMT_PUBLIC,
  sensitive: TPMT_SENSITIVE | null,
): PrivatePart | undefined {
  checkOutsideObject(call, 'inPublic', publicArea, 'inPrivate', sensitive);
  return sensitive === null ? undefined : tpm.keys.software.fromSensitive(publicArea, sensitive);
}

export const objectHandlers = {
  /** 12.1 */
  Create: async (tpm, { inSensitive, inPublic, outsideInfo, creationPCR }, call) => {
    const parent = call.object('parentHandle', TPM_RC.TYPE);
    if (!isParent(parent)) throw call.error(TPM_RC.TYPE, 'parentHandle');
    tpm.objects.requireSlot();
    call.at('inPublic', () => {
      checkCreation(parent, inPublic, inSensitive.data.length);
    });
    call.at('inSensitive', () => {
      checkAuthSize(inSensitive.userAuth, inPublic.nameAlg);
    });
    const { publicArea, privatePart } = await createChild(tpm, parent, inPublic, inSensitive.data);
    const object = makeObject({ parent }, publicArea, inSensitive.userAuth, privatePart);
    const creation = describeCreation(tpm, object, call.entity('parentHandle'), { outsideInfo, creationPCR, locality: call.locality });
    const outPrivate = tpm.keys.wrap({ ...object, privatePart }, parent.name);
    privatePart.dispose();
    return { outPrivate, outPublic: publicArea, ...creation };
  },

  /** 12.2 */
  Load: (tpm, { inPrivate, inPublic }, call) => {
    tpm.objects.requireSlot();
    if (inPrivate.length === 0) throw call.error(TPM_RC.SIZE, 'inPrivate');
    const parent = call.object('parentHandle', TPM_RC.TYPE);
    if (!isParent(parent)) throw call.error(TPM_RC.TYPE, 'parentHandle');
    const name = nameOfPublic(inPublic);
    const { authValue, privatePart } = call.at('inPrivate', () => tpm.keys.unwrap(inPrivate, inPublic, name, parent.name));
    call.at('inPublic', () => {
      checkPublicAttributes(parent, inPublic);
    });
    const object = makeObject({ parent }, inPublic, authValue, privatePart);
    return { objectHandle: tpm.objects.add(object), name };
  },

  /** 12.3 */
  LoadExternal: (tpm, { inPrivate, inPublic, hierarchy }, call) => {
    tpm.objects.requireSlot();
    if (!tpm.hierarchies.get(hierarchy).enabled) throw call.error(TPM_RC.HIERARCHY, 'hierarchy');
    if (inPrivate !== null) {
      if (hierarchy !== TPM_RH.NULL) throw call.error(TPM_RC.HIERARCHY, 'hierarchy');
      const forbidden = TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.restricted;
      if ((inPublic.objectAttributes & forbidden) !== 0) throw call.error(TPM_RC.ATTRIBUTES, 'inPublic');
    }
    const privatePart = externalPart(tpm, call, inPublic, inPrivate);
    const place = { hierarchy, primary: false, external: true };
    const object = makeObject(place, inPublic, inPrivate?.authValue ?? Buffer.alloc(0), privatePart);
    return { objectHandle: tpm.objects.add(object), name: object.name };
  },

  /** 12.4 */
  ReadPublic: (_tpm, _request, call) => {
    if (call.entity('objectHandle').kind === 'sequence') throw call.error(TPM_RC.SEQUENCE);
    const { publicArea, name, qualifiedName: qualified } = call.object('objectHandle');
    return { outPublic: publicArea, name, qualifiedName: qualified };
  },

  /** 12.5 */
  ActivateCredential: async (_tpm, { credentialBlob, secret }, call) => {
    const key = requireCredentialKey(call, 'keyHandle');
    const { name } = call.entity('activateHandle').kind === 'sequence' ? { name: Buffer.alloc(0) } : call.object('activateHandle');
    const seed = await call.atAsync('secret', () => decapsulate(privatePartOf(key), key.publicArea, 'IDENTITY', secret));
    const certInfo = call.at('credentialBlob', () => openCredential(key.publicArea, name, seed, credentialBlob));
    seed.fill(0);
    return { certInfo };
  },

  /** 12.6 */
  MakeCredential: (_tpm, { credential, objectName }, call) => {
    const { publicArea } = requireCredentialKey(call, 'handle');
    if (credential.length > digestSize(publicArea.nameAlg)) throw call.error(TPM_RC.SIZE, 'credential');
    return makeCredential(publicArea, objectName, credential);
  },

  /** 12.7 */
  Unseal: async (_tpm, _request, call) => {
    const item = call.object('itemHandle', TPM_RC.TYPE);
    if (item.publicArea.type !== TPM_ALG.KEYEDHASH) throw call.error(TPM_RC.TYPE, 'itemHandle');
    const used = TPMA_OBJECT.decrypt | TPMA_OBJECT.sign | TPMA_OBJECT.restricted;
    if ((item.publicArea.objectAttributes & used) !== 0) throw call.error(TPM_RC.ATTRIBUTES, 'itemHandle');
    return { outData: (await privatePartOf(item).secret()).sensitive };
  },

  /** 12.8 */
  ObjectChangeAuth: (tpm, { newAuth }, call) => {
    const objectEntity = call.entity('objectHandle');
    if (objectEntity.kind !== 'object') throw call.error(TPM_RC.TYPE, 'objectHandle');
    const { object } = objectEntity;
    const parent = call.object('parentHandle', TPM_RC.TYPE);
    call.at('newAuth', () => {
      checkAuthSize(newAuth, object.publicArea.nameAlg);
    });
    const place = qualifiedName(parent.qualifiedName, object.name, object.publicArea.nameAlg);
    if (!place.equals(object.qualifiedName)) throw call.error(TPM_RC.TYPE, 'parentHandle');
    const changed = { name: object.name, authValue: trimAuth(newAuth), privatePart: privatePartOf(object) };
    return { outPrivate: tpm.keys.wrap(changed, parent.name) };
  },

  /** 12.9 */
  CreateLoaded: createLoaded,
} satisfies Partial<Handlers>;
