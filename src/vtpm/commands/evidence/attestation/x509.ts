// TPM 2.0 Library Part 3, 18.8: CertifyX509.
import {
  DER_TAG,
  type DerElement,
  element,
  integer,
  objectIdentifier,
  readBits,
  readElement,
  readElements,
  sequence,
  smallInteger,
} from '../../../../crypto/der.js';
import type { CertifyX509 } from '../../../../tpm/commands/index.js';
import { TPM_ALG, TPMA_OBJECT } from '../../../../tpm/constants/index.js';
import { hash } from '../../../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../../../tpm/response-code.js';
import type { Call } from '../../../dispatch/call.js';
import type { Handler, Handlers } from '../../../dispatch/handler.js';
import { requireSigner, schemeHash, signDigest } from '../../../signing/signing.js';
import { hasAttribute } from '../../../state/objects.js';
import type { TpmObject } from '../../../state/object.js';
import { signatureAlgorithm, subjectPublicKeyInfo } from '../../../signing/x509-algorithms.js';

const EXTENSIONS = DER_TAG.CONTEXT + 3;
const KEY_USAGE = objectIdentifier('2.5.29.15');
const TCG_TPMA_OBJECT = objectIdentifier('2.23.133.10.1.1.1');
/** Version 3 of X.509 is the number 2. */
const VERSION = element(DER_TAG.CONTEXT, smallInteger(2));
/** Bytes of a serial number (RFC 5280, 4.1.2.2: at most 20). */
const SERIAL_SIZE = 20;

/** Bits of the key usage extension (RFC 5280, 4.2.1.3), the first as the most significant of 32. */
const USAGE = {
  digitalSignature: 0x80000000,
  nonRepudiation: 0x40000000,
  keyEncipherment: 0x20000000,
  dataEncipherment: 0x10000000,
  keyAgreement: 0x08000000,
  keyCertSign: 0x04000000,
  cRLSign: 0x02000000,
  encipherOnly: 0x01000000,
  decipherOnly: 0x00800000,
} as const;

/** What an attribute of the key must allow, if any of these usages is asked for. */
const usageNeeds: readonly (readonly [usages: number, attribute: number])[] = [
  [USAGE.digitalSignature | USAGE.keyCertSign | USAGE.cRLSign, TPMA_OBJECT.sign],
  [USAGE.keyEncipherment | USAGE.dataEncipherment | USAGE.keyAgreement | USAGE.encipherOnly | USAGE.decipherOnly, TPMA_OBJECT.decrypt],
  [USAGE.nonRepudiation, TPMA_OBJECT.fixedTPM],
  [USAGE.keyAgreement, TPMA_OBJECT.restricted],
];

/** The parts of a certificate that the caller gives, each with tag and length. */
interface PartialCertificate {
  /** Signature algorithm, if the caller names it. */
  readonly signature: Buffer | undefined;
  readonly issuer: Buffer;
  readonly validity: Buffer;
  readonly subject: Buffer;
  readonly extensions: DerElement;
}

/** `TPM_RC_SIZE` if it is not one sequence, `TPM_RC_VALUE` if that has not the right elements; bare. */
function parsePartial(bytes: Buffer): PartialCertificate {
  if (bytes.length === 0) throw new TpmError(TPM_RC.VALUE);
  const outer = readElement(bytes);
  if (outer?.tag !== DER_TAG.SEQUENCE || outer.encoded.length !== bytes.length) throw new TpmError(TPM_RC.SIZE);
  const parts = readElements(outer.content) ?? [];
  const sequences = parts.filter(({ tag }) => tag === DER_TAG.SEQUENCE).map(({ encoded }) => encoded);
  const [extensions, ...others] = parts.filter(({ tag }) => tag === EXTENSIONS);
  const [subject, validity, issuer, signature, tooMany] = sequences.reverse();
  const isComplete = subject !== undefined && validity !== undefined && issuer !== undefined && tooMany === undefined;
  if (extensions === undefined || others.length > 0 || !isComplete || parts.length !== sequences.length + 1)
    throw new TpmError(TPM_RC.VALUE);
  return { signature, issuer, validity, subject, extensions };
}

/** The bits of an extension of that name: undefined if there is no such extension. `TPM_RC_VALUE` if it has none; bare. */
function extensionBits(extensions: readonly DerElement[], identifier: Buffer): number | undefined {
  const found = extensions.find(({ content }) => content.subarray(0, identifier.length).equals(identifier));
  if (found === undefined) return undefined;
  const value = readElements(found.content)?.find(({ tag }) => tag === DER_TAG.OCTET_STRING);
  const inner = value && readElement(value.content);
  const bits = inner && readBits(inner);
  if (bits === undefined) throw new TpmError(TPM_RC.VALUE);
  return bits;
}

/** Whether two extensions have the same identifier, which no certificate may have (RFC 5280, 4.2): readers differ in which one they believe. */
function hasDuplicates(extensions: readonly DerElement[]): boolean {
  const identifiers = extensions.map(({ content }) => (readElement(content)?.encoded ?? content).toString('hex'));
  return new Set(identifiers).size < identifiers.length;
}

/** Checks what the extensions say of the key. `TPM_RC_ATTRIBUTES` at the key, `TPM_RC_VALUE` at the certificate. */
function checkExtensions(call: Call<'objectHandle', 'partialCertificate'>, key: TpmObject, { content }: DerElement): void {
  const refuse = (): TpmError => call.error(TPM_RC.VALUE, 'partialCertificate');
  const list = readElement(content);
  if (list?.tag !== DER_TAG.SEQUENCE || list.encoded.length !== content.length) throw refuse();
  const extensions = readElements(list.content);
  if (extensions === undefined || extensions.some(({ tag }) => tag !== DER_TAG.SEQUENCE)) throw refuse();
  if (hasDuplicates(extensions)) throw refuse();
  const bitsOf = (identifier: Buffer): number | undefined => call.at('partialCertificate', () => extensionBits(extensions, identifier));
  const attributes = bitsOf(TCG_TPMA_OBJECT);
  if (attributes !== undefined && attributes !== key.publicArea.objectAttributes >>> 0) throw call.error(TPM_RC.ATTRIBUTES, 'objectHandle');
  const usage = bitsOf(KEY_USAGE);
  if (usage === undefined) throw refuse();
  for (const [usages, attribute] of usageNeeds) if ((usage & usages) !== 0 && !hasAttribute(key, attribute)) throw refuse();
}

/** 18.8: the TPM adds version, serial number, public key and, if it is missing, the signature algorithm. */
const certifyX509: Handler<typeof CertifyX509> = async (tpm, { reserved, inScheme, partialCertificate }, call) => {
  if (reserved.length > 0) throw call.error(TPM_RC.SIZE, 'reserved');
  const signer = requireSigner(call, 'signHandle', 'inScheme', inScheme);
  const object = call.object('objectHandle', TPM_RC.ASYMMETRIC);
  const publicKey = subjectPublicKeyInfo(object.publicArea);
  if (publicKey === undefined) throw call.error(TPM_RC.ASYMMETRIC, 'objectHandle');
  const partial = call.at('partialCertificate', () => parsePartial(partialCertificate));
  const { key, scheme } = signer;
  if (key === undefined || key.publicArea.nameAlg === TPM_ALG.NULL) throw call.error(TPM_RC.KEY, 'signHandle');
  const made = partial.signature === undefined ? signatureAlgorithm(key.publicArea, scheme) : undefined;
  const algorithm = partial.signature ?? made;
  if (algorithm === undefined) throw call.error(TPM_RC.SCHEME, 'signHandle');
  checkExtensions(call, object, partial.extensions);

  const { issuer, validity, subject, extensions } = partial;
  const rest = [algorithm, issuer, validity, subject, publicKey, extensions.encoded];
  const unique = hash(key.publicArea.nameAlg, ...rest, key.name, object.name);
  const serial = integer(unique.subarray(0, SERIAL_SIZE));
  const tbsDigest = hash(schemeHash(scheme), sequence(VERSION, serial, ...rest));
  const addedToCertificate = sequence(VERSION, serial, ...(made === undefined ? [] : [made]), publicKey);
  return { addedToCertificate, tbsDigest, signature: await signDigest(tpm, signer, tbsDigest) };
};

export const x509Handlers = { CertifyX509: certifyX509 } satisfies Partial<Handlers>;
