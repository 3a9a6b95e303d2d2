// TPM 2.0 Library Part 3, 13: duplication commands.
import { wrapParametersOf } from '../../../crypto/credential.js';
import { innerUnwrap, innerWrap, newInnerKey, outerUnwrap, outerWrap } from '../../../crypto/outer-wrap.js';
import { decapsulate, encapsulate } from '../../../crypto/secrets.js';
import { MAX_PRIVATE_SIZE, TPM_ALG, TPMA_OBJECT } from '../../../tpm/constants/index.js';
import { digestSize, hash } from '../../../tpm/hash.js';
import { nameOfPublic } from '../../../tpm/name.js';
import { TPM_RC, TpmError } from '../../../tpm/response-code.js';
import { decode, encode, sized } from '../../../tpm/schema.js';
import { Reader } from '../../../tpm/wire.js';
import { type TPMT_PUBLIC, TPMT_SENSITIVE, type TPMT_SYM_DEF_OBJECT_PLUS } from '../../../tpm/structures/index.js';
import { ANCHORED_ENGINE_ID } from '../../../keys/hardware-engine.js';
import type { Call } from '../../dispatch/call.js';
import type { Handlers } from '../../dispatch/handler.js';
import { checkOutsideObject } from '../../objects/outside-object.js';
import { hasAttribute, isParent, privatePartOf } from '../../state/objects.js';
import type { TpmObject } from '../../state/object.js';

const none = Buffer.alloc(0);
const TPM2B_SENSITIVE_AREA = sized(TPMT_SENSITIVE);
const STORAGE = TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt;

/** An asymmetric storage key, public part or more, that the handle stands for; undefined for TPM_RH_NULL. `TPM_RC_TYPE` otherwise. */
function storageKey<H extends string>(call: Call<H>, where: H): TpmObject | undefined {
  if (call.entity(where).kind === 'hierarchy') return undefined;
  const object = call.object(where, TPM_RC.TYPE);
  const { type } = object.publicArea;
  if (!hasAttribute(object, STORAGE) || (type !== TPM_ALG.RSA && type !== TPM_ALG.ECC)) throw call.error(TPM_RC.TYPE, where);
  return object;
}

/** Outer wrap for a new parent, or none for TPM_RH_NULL. */
function wrapFor(parent: TpmObject | undefined, name: Buffer, data: Buffer): { outer: Buffer; outSymSeed: Buffer } {
  if (parent === undefined) return { outer: data, outSymSeed: none };
  const { secret, encrypted } = encapsulate(parent.publicArea, 'DUPLICATE');
  const outer = outerWrap(wrapParametersOf(parent.publicArea), secret, name, data);
  secret.fill(0);
  return { outer, outSymSeed: encrypted };
}

/** The sensitive area of an object as it leaves the TPM (Part 1, 23.3). */
async function sensitiveOf(object: TpmObject): Promise<TPMT_SENSITIVE> {
  const { publicArea } = object;
  const { seedValue, sensitive } = await privatePartOf(object).secret();
  const authValue = Buffer.alloc(digestSize(publicArea.nameAlg));
  object.authValue.copy(authValue);
  const needsSeed = seedValue.length === 0 && hasAttribute(object, STORAGE);
  const seed = needsSeed ? hash(publicArea.nameAlg, Buffer.from('tpmux storage seed\0'), sensitive) : seedValue;
  return { sensitiveType: publicArea.type, authValue, seedValue: seed, sensitive };
}

/** Checks the symmetric algorithm against the inner key that came with it. */
function checkInnerKey<P extends string>(
  call: Call<never, P>,
  symmetric: TPMT_SYM_DEF_OBJECT_PLUS,
  key: Buffer,
  where: P,
  mayBeEmpty: boolean,
): void {
  const wanted = symmetric.algorithm === TPM_ALG.NULL ? 0 : symmetric.keyBits / 8;
  if (key.length !== wanted && !(mayBeEmpty && key.length === 0)) throw call.error(TPM_RC.SIZE, where);
}

/** Undoes outer and inner wrap of an import. Bare codes. */
function unwrapImport(
  parent: TpmObject,
  publicArea: TPMT_PUBLIC,
  seed: Buffer | undefined,
  inner: { symmetric: TPMT_SYM_DEF_OBJECT_PLUS; key: Buffer },
  duplicate: Buffer,
): TPMT_SENSITIVE {
  const name = nameOfPublic(publicArea);
  const outer = seed === undefined ? duplicate : outerUnwrap(wrapParametersOf(parent.publicArea), seed, name, duplicate);
  const { symmetric, key } = inner;
  const clear = symmetric.algorithm === TPM_ALG.NULL ? outer : innerUnwrap({ hashAlg: publicArea.nameAlg, symmetric }, key, name, outer);
  return decodeSensitive(clear);
}

/** The sensitive area in a `TPM2B_SENSITIVE`, whose size is looked at before its contents. `TPM_RC_SIZE`, errors of the structure; bare. */
function decodeSensitive(bytes: Buffer): TPMT_SENSITIVE {
  const reader = new Reader(bytes);
  if (reader.uint16() !== reader.remaining) throw new TpmError(TPM_RC.SIZE);
  return decode(TPMT_SENSITIVE, reader.view(reader.remaining));
}

export const duplicationHandlers = {
  /** 13.1 */
  Duplicate: async (_tpm, { encryptionKeyIn, symmetricAlg }, call) => {
    const object = call.object('objectHandle');
    if (hasAttribute(object, TPMA_OBJECT.fixedParent)) throw call.error(TPM_RC.ATTRIBUTES, 'objectHandle');
    const { nameAlg } = object.publicArea;
    if (nameAlg === TPM_ALG.NULL) throw call.error(TPM_RC.TYPE, 'objectHandle');
    const newParent = storageKey(call, 'newParentHandle');
    if (hasAttribute(object, TPMA_OBJECT.encryptedDuplication)) {
      if (symmetricAlg.algorithm === TPM_ALG.NULL) throw call.error(TPM_RC.SYMMETRIC, 'symmetricAlg');
      if (newParent === undefined) throw call.error(TPM_RC.HIERARCHY, 'newParentHandle');
    }
    checkInnerKey(call, symmetricAlg, encryptionKeyIn, 'encryptionKeyIn', true);
    // The policy wants its keys to stay in this chip, whatever their attributes allow.
    if (object.privatePart?.engineId === ANCHORED_ENGINE_ID) throw call.error(TPM_RC.ATTRIBUTES, 'objectHandle');
    const area = await sensitiveOf(object);
    const clear = encode(TPM2B_SENSITIVE_AREA, area);
    area.sensitive.fill(0);
    const encrypted = symmetricAlg.algorithm !== TPM_ALG.NULL;
    const made = encrypted && encryptionKeyIn.length === 0;
    const key = made ? newInnerKey(symmetricAlg) : encryptionKeyIn;
    const inner = encrypted ? innerWrap({ hashAlg: nameAlg, symmetric: symmetricAlg }, key, object.name, clear) : clear;
    const { outer, outSymSeed } = wrapFor(newParent, object.name, inner);
    if (encrypted || newParent !== undefined) clear.fill(0);
    return { encryptionKeyOut: made ? key : none, duplicate: outer, outSymSeed };
  },

  /** 13.2 */
  Rewrap: async (_tpm, { inDuplicate, name, inSymSeed }, call) => {
    const oldIsNull = call.entity('oldParent').kind === 'hierarchy';
    if ((inSymSeed.length === 0) !== oldIsNull) throw call.error(TPM_RC.HANDLE, 'oldParent');
    const oldParent = storageKey(call, 'oldParent');
    let data = inDuplicate;
    if (oldParent !== undefined) {
      const seed = await decapsulate(privatePartOf(oldParent), oldParent.publicArea, 'DUPLICATE', inSymSeed).catch((error: unknown) => {
        throw error instanceof TpmError ? call.error(TPM_RC.VALUE, 'inSymSeed') : error;
      });
      data = call.at('inDuplicate', () => outerUnwrap(wrapParametersOf(oldParent.publicArea), seed, name, inDuplicate));
      seed.fill(0);
    }
    const { outer, outSymSeed } = wrapFor(storageKey(call, 'newParent'), name, data);
    if (outer.length > MAX_PRIVATE_SIZE) throw call.error(TPM_RC.VALUE, 'inDuplicate');
    return { outDuplicate: outer, outSymSeed };
  },

  /** 13.3 */
  Import: async (tpm, { encryptionKey, objectPublic, duplicate, inSymSeed, symmetricAlg }, call) => {
    const { objectAttributes } = objectPublic;
    if ((objectAttributes & (TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent)) !== 0) throw call.error(TPM_RC.ATTRIBUTES, 'objectPublic');
    const parent = call.object('parentHandle', TPM_RC.TYPE);
    if (!isParent(parent)) throw call.error(TPM_RC.TYPE, 'parentHandle');
    checkInnerKey(call, symmetricAlg, encryptionKey, 'encryptionKey', false);
    const encryptedDuplication = (objectAttributes & TPMA_OBJECT.encryptedDuplication) !== 0;
    if (encryptedDuplication && symmetricAlg.algorithm === TPM_ALG.NULL) throw call.error(TPM_RC.ATTRIBUTES, 'encryptionKey');
    if (inSymSeed.length > 0 && parent.publicArea.type === TPM_ALG.SYMCIPHER) throw call.error(TPM_RC.TYPE, 'parentHandle');
    if (inSymSeed.length === 0 && encryptedDuplication) throw call.error(TPM_RC.ATTRIBUTES, 'inSymSeed');
    const opened = (): Promise<Buffer> => decapsulate(privatePartOf(parent), parent.publicArea, 'DUPLICATE', inSymSeed);
    const seed = inSymSeed.length === 0 ? undefined : await call.atAsync('inSymSeed', opened);
    if (objectPublic.nameAlg === TPM_ALG.NULL) throw call.error(TPM_RC.HASH, 'objectPublic');
    const area = call.at('duplicate', () =>
      unwrapImport(parent, objectPublic, seed, { symmetric: symmetricAlg, key: encryptionKey }, duplicate),
    );
    seed?.fill(0);
    checkOutsideObject(call, 'objectPublic', objectPublic, 'duplicate', area);
    const privatePart = await tpm.keys.importEngineFor(objectPublic, parent.hierarchy).adopt(objectPublic, area);
    const object = { name: nameOfPublic(objectPublic), authValue: area.authValue, privatePart };
    const outPrivate = tpm.keys.wrap(object, parent.name);
    area.sensitive.fill(0);
    privatePart.dispose();
    return { outPrivate };
  },
} satisfies Partial<Handlers>;
