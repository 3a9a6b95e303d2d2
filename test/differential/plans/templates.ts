// Public areas of every kind, valid or nearly.
import { TPM_ALG, TPM_ECC_CURVE, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import type { TPMT_PUBLIC } from '../../../src/tpm/structures/index.js';
import { none } from '../../support/frames.js';
import { cipherTemplate, eccTemplate, GENERAL, hmacTemplate, PARENT, type PublicOf, rsaTemplate } from '../../support/templates.js';
import type { StepMaker } from '../generator.js';
import type { LoadedObject, ObjectFacts } from '../model.js';

const nullScheme = { scheme: TPM_ALG.NULL, details: null } as const;
const { restricted, decrypt, sign, fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA } = TPMA_OBJECT;

const curves = [
  TPM_ECC_CURVE.NIST_P256,
  TPM_ECC_CURVE.NIST_P256,
  TPM_ECC_CURVE.NIST_P256,
  TPM_ECC_CURVE.NIST_P384,
  TPM_ECC_CURVE.NIST_P521,
  TPM_ECC_CURVE.NIST_P192,
  TPM_ECC_CURVE.NIST_P224,
  TPM_ECC_CURVE.BN_P256,
  TPM_ECC_CURVE.BN_P638,
  TPM_ECC_CURVE.SM2_P256,
] as const;

/** What a key is for. */
export type KeyKind = 'parent' | 'eccSign' | 'daa' | 'eccDecrypt' | 'rsa' | 'hmac' | 'seal' | 'cipher' | 'derivation';

export function symmetric(g: StepMaker): PublicOf<typeof TPM_ALG.SYMCIPHER>['parameters']['sym'] {
  const { choose } = g;
  const mode = choose.of(TPM_ALG.CFB, TPM_ALG.CFB, TPM_ALG.CBC, TPM_ALG.CTR, TPM_ALG.OFB, TPM_ALG.ECB, TPM_ALG.NULL, TPM_ALG.CMAC);
  if (choose.once(6)) return { algorithm: TPM_ALG.CAMELLIA, keyBits: choose.of(128, 256), mode };
  if (choose.once(6)) return { algorithm: TPM_ALG.TDES, keyBits: choose.of(128, 192), mode };
  return { algorithm: TPM_ALG.AES, keyBits: choose.of(128, 256), mode };
}

/** The symmetric algorithm of a storage key. */
function storageCipher(g: StepMaker): { algorithm: typeof TPM_ALG.AES; keyBits: 128 | 256; mode: typeof TPM_ALG.CFB } {
  return { algorithm: TPM_ALG.AES, keyBits: g.choose.of(128, 128, 256), mode: TPM_ALG.CFB };
}

function eccSign(g: StepMaker): TPMT_PUBLIC {
  const { choose } = g;
  const template = eccTemplate(choose.of(...curves), g.hash());
  const hashAlg = g.hash();
  const scheme = choose.of<PublicOf<typeof TPM_ALG.ECC>['parameters']['scheme']>(
    nullScheme,
    { scheme: TPM_ALG.ECDSA, details: { hashAlg } },
    { scheme: TPM_ALG.ECDSA, details: { hashAlg } },
    { scheme: TPM_ALG.ECSCHNORR, details: { hashAlg } },
    { scheme: TPM_ALG.SM2, details: { hashAlg } },
    { scheme: TPM_ALG.ECDAA, details: { hashAlg, count: choose.of(0, 1) } },
  );
  const attributes = userWithAuth | sensitiveDataOrigin | sign | (scheme.scheme !== TPM_ALG.NULL && choose.once(2) ? restricted : 0);
  return { ...template, objectAttributes: attributes, parameters: { ...template.parameters, scheme } };
}

/** A key for Commit. */
function anonymous(g: StepMaker): TPMT_PUBLIC {
  const { choose } = g;
  const { NIST_P256, NIST_P384, BN_P256, BN_P638 } = TPM_ECC_CURVE;
  const template = eccTemplate(choose.of(NIST_P256, NIST_P256, BN_P256, NIST_P384, BN_P638), g.hash());
  const scheme = { scheme: TPM_ALG.ECDAA, details: { hashAlg: g.hash(), count: 0 } } as const;
  const attributes = userWithAuth | sensitiveDataOrigin | sign | (choose.once(6) ? restricted : 0);
  return { ...template, objectAttributes: attributes, parameters: { ...template.parameters, scheme } };
}

function eccDecrypt(g: StepMaker): TPMT_PUBLIC {
  const { choose } = g;
  const template = eccTemplate(choose.of(...curves), g.hash());
  const scheme = choose.of<PublicOf<typeof TPM_ALG.ECC>['parameters']['scheme']>(
    nullScheme,
    nullScheme,
    { scheme: TPM_ALG.ECDH, details: { hashAlg: g.hash() } },
    { scheme: TPM_ALG.ECMQV, details: { hashAlg: g.hash() } },
  );
  return { ...template, objectAttributes: GENERAL & ~sign, parameters: { ...template.parameters, scheme } };
}

function rsa(g: StepMaker): TPMT_PUBLIC {
  const { choose } = g;
  const template = rsaTemplate(choose.of(1024, 2048, 2048), g.hash());
  const hashAlg = g.hash();
  const [scheme, objectAttributes] = choose.of<[PublicOf<typeof TPM_ALG.RSA>['parameters']['scheme'], number]>(
    [nullScheme, GENERAL],
    [{ scheme: TPM_ALG.RSASSA, details: { hashAlg } }, GENERAL & ~decrypt],
    [{ scheme: TPM_ALG.RSAPSS, details: { hashAlg } }, (GENERAL & ~decrypt) | restricted],
    [{ scheme: TPM_ALG.OAEP, details: { hashAlg } }, GENERAL & ~sign],
    [{ scheme: TPM_ALG.RSAES, details: null }, GENERAL & ~sign],
  );
  return { ...template, objectAttributes, parameters: { ...template.parameters, scheme } };
}

function keyedHash(g: StepMaker, kind: 'hmac' | 'seal' | 'derivation'): TPMT_PUBLIC {
  const { choose } = g;
  const template = hmacTemplate(g.hash());
  if (kind === 'seal') return { ...template, objectAttributes: userWithAuth, parameters: { scheme: nullScheme } };
  if (kind === 'derivation') {
    const scheme = { scheme: TPM_ALG.XOR, details: { hashAlg: g.hash(), kdf: TPM_ALG.KDF1_SP800_108 } };
    const objectAttributes = PARENT | (choose.once(2) ? fixedTPM | fixedParent : 0);
    return {
      ...template,
      objectAttributes: choose.once(2) ? objectAttributes & ~sensitiveDataOrigin : objectAttributes,
      parameters: { scheme },
    };
  }
  const scheme = choose.once(3) ? nullScheme : { scheme: TPM_ALG.HMAC, details: { hashAlg: g.hash() } };
  const origin = choose.once(2) ? sensitiveDataOrigin : 0;
  return {
    ...template,
    objectAttributes: userWithAuth | sign | origin | (scheme.scheme === TPM_ALG.HMAC && choose.once(3) ? restricted : 0),
    parameters: { scheme },
  };
}

function parent(g: StepMaker): TPMT_PUBLIC {
  const { choose } = g;
  if (choose.once(12)) {
    const template = rsaTemplate(2048, TPM_ALG.SHA256);
    return { ...template, objectAttributes: PARENT, parameters: { ...template.parameters, symmetric: storageCipher(g) } };
  }
  if (choose.once(8)) {
    const cipher = cipherTemplate(storageCipher(g));
    return { ...cipher, objectAttributes: PARENT, nameAlg: g.hash() };
  }
  const template = eccTemplate(choose.of(...curves.slice(0, 5)), g.hash());
  return { ...template, objectAttributes: PARENT, parameters: { ...template.parameters, symmetric: storageCipher(g) } };
}

function plainTemplate(g: StepMaker, kind: KeyKind): TPMT_PUBLIC {
  switch (kind) {
    case 'parent':
      return parent(g);
    case 'eccSign':
      return eccSign(g);
    case 'daa':
      return anonymous(g);
    case 'eccDecrypt':
      return eccDecrypt(g);
    case 'rsa':
      return rsa(g);
    case 'cipher':
      return {
        ...cipherTemplate(symmetric(g)),
        nameAlg: g.hash(),
        objectAttributes: GENERAL & ~(g.choose.once(2) ? sensitiveDataOrigin : 0),
      };
    default:
      return keyedHash(g, kind);
  }
}

/** Any kind, RSA rarely: its keys take long to make. */
export function anyKind(g: StepMaker): KeyKind {
  if (g.choose.once(40)) return 'rsa';
  return g.choose.of('parent', 'eccSign', 'eccSign', 'eccDecrypt', 'hmac', 'hmac', 'seal', 'cipher', 'cipher', 'derivation');
}

/** A template of that kind; in one of ten cases with something wrong, perhaps. */
export function templateOf(g: StepMaker, kind: KeyKind): TPMT_PUBLIC {
  const { choose } = g;
  const template = plainTemplate(g, kind);
  let attributes = template.objectAttributes;
  if (choose.once(3)) attributes |= fixedTPM | fixedParent;
  if (choose.once(2)) attributes |= noDA;
  if (choose.once(20)) attributes |= TPMA_OBJECT.stClear;
  if (choose.once(20)) attributes |= TPMA_OBJECT.adminWithPolicy;
  if (choose.once(30)) attributes |= TPMA_OBJECT.encryptedDuplication;
  if (choose.once(12)) attributes ^= choose.of(...Object.values(TPMA_OBJECT));
  return { ...template, objectAttributes: attributes >>> 0 };
}

/** Sensitive data for a template: mostly what it needs. */
export function dataFor(g: StepMaker, template: TPMT_PUBLIC): Buffer {
  const { choose } = g;
  const wants = (template.objectAttributes & sensitiveDataOrigin) === 0;
  if (wants === choose.once(30)) return none;
  if (template.type === TPM_ALG.SYMCIPHER) {
    const { keyBits } = template.parameters.sym;
    return choose.bytes(choose.once(20) ? 15 : (keyBits ?? 128) / 8);
  }
  return choose.bytes(choose.of(1, 16, 32, 64, 65, 127, 128));
}

/** Whether the object has all of the attributes in `all`, none of those in `no`. */
export function hasAttributes(object: LoadedObject, all: number, no = 0): boolean {
  const attributes = object.facts?.template.objectAttributes ?? 0;
  return (attributes & all) === all && (attributes & no) === 0;
}

/** A parent in the sense of Create and Load. */
export function isParent(object: LoadedObject): boolean {
  return (
    hasAttributes(object, restricted | decrypt) && object.facts?.template.type !== TPM_ALG.KEYEDHASH && object.facts?.hasPrivate === true
  );
}

/** An asymmetric key with that attribute. */
export function isAsymmetric({ facts }: LoadedObject): boolean {
  return facts?.template.type === TPM_ALG.ECC || facts?.template.type === TPM_ALG.RSA;
}

/** What is known of a new object. */
export function factsOf(template: TPMT_PUBLIC, hierarchy: number, data: Buffer): ObjectFacts {
  const isGiven = data.length > 0 && (template.objectAttributes & sensitiveDataOrigin) === 0;
  return { template, hierarchy, external: false, knownSecret: isGiven, hasPrivate: true };
}
