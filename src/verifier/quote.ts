// TPM 2.0 Library Part 1, 31.4 and Part 2, 10.12: a quote as tpm2_quote writes it, and the key that signed it.
import { createPublicKey, type KeyObject } from 'node:crypto';
import { verifySignature } from '../crypto/signatures.js';
import { readElements, readElement } from '../crypto/der.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_GENERATED, TPM_ST, TPMA_OBJECT } from '../tpm/constants/index.js';
import { digestSize, hash, hashName } from '../tpm/hash.js';
import { decode, sized, type Schema } from '../tpm/schema.js';
import { TPMS_ATTEST, TPMT_PUBLIC, TPMT_SIGNATURE } from '../tpm/structures/index.js';
import { TpmError } from '../tpm/response-code.js';
import type { DigestName } from '../statements/statement.js';
import { VerificationError } from './verification-error.js';

/** A quote: `TPMS_ATTEST` of type `TPM_ST_ATTEST_QUOTE`. */
export type Quote = Extract<TPMS_ATTEST, { type: typeof TPM_ST.ATTEST_QUOTE }>;

/** An attestation key. */
export interface AttestationKey {
  readonly publicArea: TPMT_PUBLIC;
  /** Whether the TPM's own description of the key was given, which tells that it signs nothing but the TPM's structures. */
  readonly described: boolean;
}

const MIN_RSA_BITS = 2048;
const REQUIRED = TPMA_OBJECT.sign | TPMA_OBJECT.restricted | TPMA_OBJECT.fixedTPM | TPMA_OBJECT.sensitiveDataOrigin;
const CURVES: Readonly<Record<string, typeof TPM_ECC_CURVE.NIST_P256 | typeof TPM_ECC_CURVE.NIST_P384 | typeof TPM_ECC_CURVE.NIST_P521>> = {
  'P-256': TPM_ECC_CURVE.NIST_P256,
  'P-384': TPM_ECC_CURVE.NIST_P384,
  'P-521': TPM_ECC_CURVE.NIST_P521,
};
/** Signature hashes that are good enough, by the size of their digests: TPM2_Quote hashes PCRs with the signature's hash. */
const HASHES = [TPM_ALG.SHA256, TPM_ALG.SHA384, TPM_ALG.SHA512] as const;
const NO_SCHEME = { scheme: TPM_ALG.NULL, details: null } as const;
const NO_CIPHER = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;

/** Reads a quote (`tpm2_quote -m`). Throws {@link VerificationError} `not_a_quote`. */
export function readQuote(message: Buffer): Quote {
  if (message.length < 6 || message.readUInt32BE(0) !== TPM_GENERATED) {
    throw new VerificationError('not_a_quote', 'the message is not a structure that a TPM made');
  }
  if (message.readUInt16BE(4) !== TPM_ST.ATTEST_QUOTE) {
    throw new VerificationError('not_a_quote', `the message is an attestation of type 0x${message.toString('hex', 4, 6)}, not a quote`);
  }
  const attest = decoded(TPMS_ATTEST, message);
  if (attest?.type !== TPM_ST.ATTEST_QUOTE) throw new VerificationError('not_a_quote', 'the message is cut off or malformed');
  return attest;
}

/**
 * Reads a key: `TPM2B_PUBLIC` or `TPMT_PUBLIC` (`tpm2_readpublic -o`, `tpm2_createak -u`), or a public key in PEM or DER, of which the attributes
 * cannot be checked. Throws {@link VerificationError} `unsuitable_key`.
 */
export function readAttestationKey(bytes: Buffer): AttestationKey {
  const publicArea = decoded(sized(TPMT_PUBLIC), bytes) ?? decoded(TPMT_PUBLIC, bytes);
  if (publicArea === undefined) return { publicArea: importKey(bytes), described: false };
  if ((publicArea.objectAttributes & REQUIRED) !== REQUIRED) {
    throw new VerificationError(
      'unsuitable_key',
      'the key is no restricted signing key that its TPM made and keeps, so anybody may have signed anything with it',
    );
  }
  requireStrength(publicArea);
  return { publicArea, described: true };
}

/**
 * Checks who signed a quote: `TPMT_SIGNATURE` (`tpm2_quote -s`), or the bare signature (`-f plain`). Throws {@link VerificationError}
 * `bad_signature`.
 */
export function checkQuoteSignature({ publicArea }: AttestationKey, message: Buffer, { attested }: Quote, signature: Buffer): void {
  const hashAlg = HASHES.find((alg) => digestSize(alg) === attested.pcrDigest.length);
  if (hashAlg === undefined) throw new VerificationError('bad_signature', 'the quote is signed with a hash that is too weak or not known');
  const given = decoded(TPMT_SIGNATURE, signature);
  const candidates = given === undefined ? bareSignatures(publicArea, hashAlg, signature) : [given];
  const valid = candidates.some((one) => verifies(publicArea, message, one, hashAlg));
  if (!valid) throw new VerificationError('bad_signature', "the quote's signature is not that of the attestation key");
}

/** The hash that TPM2_Quote used for the digest of the PCRs; of a quote whose signature was checked. */
export function quoteHash({ attested }: Quote): number {
  return HASHES.find((alg) => digestSize(alg) === attested.pcrDigest.length) ?? TPM_ALG.SHA256;
}

const ACCEPTED: readonly number[] = [TPM_ALG.RSASSA, TPM_ALG.RSAPSS, TPM_ALG.ECDSA];

function verifies(publicArea: TPMT_PUBLIC, message: Buffer, given: TPMT_SIGNATURE, hashAlg: number): boolean {
  const { sigAlg, signature } = given;
  if (!ACCEPTED.includes(sigAlg) || signature === null || !('hash' in signature) || signature.hash !== hashAlg) return false;
  try {
    return verifySignature(publicArea, hash(hashAlg, message), given);
  } catch (error) {
    if (error instanceof TpmError) return false;
    throw error;
  }
}

function bareSignatures({ type }: TPMT_PUBLIC, hashAlg: (typeof HASHES)[number], bytes: Buffer): TPMT_SIGNATURE[] {
  if (type === TPM_ALG.RSA) {
    const signature = { hash: hashAlg, sig: bytes };
    return [
      { sigAlg: TPM_ALG.RSASSA, signature },
      { sigAlg: TPM_ALG.RSAPSS, signature },
    ];
  }
  const outer = readElement(bytes);
  const numbers = outer === undefined || outer.encoded.length !== bytes.length ? undefined : readElements(outer.content);
  const [r, s] = numbers ?? [];
  if (r === undefined || s === undefined) return [];
  return [{ sigAlg: TPM_ALG.ECDSA, signature: { hash: hashAlg, signatureR: unsigned(r.content), signatureS: unsigned(s.content) } }];
}

/** A DER integer without the zero that keeps it positive. */
function unsigned(content: Buffer): Buffer {
  return content.length > 1 && content[0] === 0 ? content.subarray(1) : content;
}

function importKey(bytes: Buffer): TPMT_PUBLIC {
  const key = publicKey(bytes);
  const { kty, crv, n, e, x, y } = key.export({ format: 'jwk' });
  const bytesOf = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');
  const common = { nameAlg: TPM_ALG.SHA256, objectAttributes: TPMA_OBJECT.sign, authPolicy: Buffer.alloc(0) } as const;
  const curveID = CURVES[crv ?? ''];
  let publicArea: TPMT_PUBLIC;
  if (kty === 'RSA') {
    const unique = bytesOf(n);
    const exponent = Number(BigInt(`0x${bytesOf(e).toString('hex')}`));
    if (exponent > 0xffffffff) throw new VerificationError('unsuitable_key', 'the exponent of the key is more than a TPM has');
    const parameters = {
      symmetric: NO_CIPHER,
      scheme: NO_SCHEME,
      keyBits: (unique.length * 8) as 2048,
      exponent,
    };
    publicArea = { type: TPM_ALG.RSA, ...common, parameters, unique };
  } else if (kty === 'EC' && curveID !== undefined) {
    const parameters = { symmetric: NO_CIPHER, scheme: NO_SCHEME, curveID, kdf: NO_SCHEME };
    publicArea = { type: TPM_ALG.ECC, ...common, parameters, unique: { x: bytesOf(x), y: bytesOf(y) } };
  } else throw new VerificationError('unsuitable_key', 'the key is neither RSA nor ECC on a NIST curve');
  requireStrength(publicArea);
  return publicArea;
}

function publicKey(bytes: Buffer): KeyObject {
  try {
    return bytes.subarray(0, 5).toString('latin1') === '-----'
      ? createPublicKey(bytes)
      : createPublicKey({ key: bytes, format: 'der', type: 'spki' });
  } catch (error) {
    throw new VerificationError('unsuitable_key', 'the key is neither TPM2B_PUBLIC nor a public key in PEM or DER', { cause: error });
  }
}

function requireStrength({ type, unique }: TPMT_PUBLIC): void {
  if (type === TPM_ALG.RSA && unique.length * 8 < MIN_RSA_BITS) {
    throw new VerificationError('unsuitable_key', `the key is RSA of less than ${MIN_RSA_BITS.toString()} bits`);
  }
  if (type !== TPM_ALG.RSA && type !== TPM_ALG.ECC) throw new VerificationError('unsuitable_key', 'the key is no asymmetric key');
}

/** All of the bytes by a schema; undefined if they are not that. */
function decoded<T>(schema: Schema<T>, bytes: Buffer): T | undefined {
  try {
    return decode(schema, bytes);
  } catch (error) {
    if (error instanceof TpmError) return undefined;
    throw error;
  }
}

/** Names of the banks that a quote is over, in its order, with the PCRs of each. */
export function quotedBanks({ attested }: Quote): { readonly bank: number; readonly name: DigestName; readonly pcrs: readonly number[] }[] {
  return attested.pcrSelect.map(({ hash: bank, pcrSelect }) => ({
    bank,
    name: hashName(bank),
    pcrs: [...pcrSelect].flatMap((byte, octet) =>
      Array.from({ length: 8 }, (_, bit) => bit).flatMap((bit) => ((byte >> bit) & 1 ? [octet * 8 + bit] : [])),
    ),
  }));
}
