// Whom state keys are sealed to, as the operator says it in files.
import { createPublicKey, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { describeIssue } from '../config/describe-issue.js';
import { readYaml } from '../config/settings-file.js';
import { DER_TAG, readElements } from '../crypto/der.js';
import { EXIT, Failure, reasonOf } from '../failure.js';
import type { ApprovedPolicy, PcrChoice, SealedTo } from '../hardware/host/sealing.js';
import { TPM_ALG, TPM_ECC_CURVE, TPMA_OBJECT } from '../tpm/constants/index.js';
import type { TPMT_PUBLIC, TPMT_SIGNATURE } from '../tpm/structures/index.js';
import { PCR_BANKS, type Config } from '../config/config.js';

const EMPTY = Buffer.alloc(0);
const NO_SCHEME = { scheme: TPM_ALG.NULL, details: null } as const;
const NO_CIPHER = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const BANKS: Readonly<Record<(typeof PCR_BANKS)[number], number>> = {
  sha1: TPM_ALG.SHA1,
  sha256: TPM_ALG.SHA256,
  sha384: TPM_ALG.SHA384,
  sha512: TPM_ALG.SHA512,
};

const policies = v.array(
  v.strictObject({
    bank: v.picklist(PCR_BANKS),
    pcrs: v.pipe(v.array(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(23))), v.minLength(1)),
    policy: v.pipe(v.string(), v.regex(/^[0-9a-fA-F]{64}$/)),
    signature: v.pipe(v.string(), v.base64()),
  }),
);

/** PCRs by the name of their bank. */
export function pcrChoice(bank: (typeof PCR_BANKS)[number], pcrs: readonly number[]): PcrChoice {
  return { bank: BANKS[bank], pcrs: [...new Set(pcrs)].sort((a, b) => a - b) };
}

/** What `hardware.seal-to` says. Rejects with a {@link Failure} that names the file at fault. */
export async function readSealTo({ sealTo }: Pick<Config, 'sealTo'>): Promise<SealedTo | undefined> {
  if (sealTo === undefined) return undefined;
  if ('bank' in sealTo) return { kind: 'pcrs', choice: pcrChoice(sealTo.bank, sealTo.pcrs) };
  const path = sealTo.authority;
  try {
    return { kind: 'authority', key: publicArea(createPublicKey(await readFile(path))) };
  } catch (error) {
    throw fileFailure(
      'reading the public key of the authority',
      path,
      reasonOf(error),
      'name a file with a PEM public key: RSA of 2048 bits or more, or ECC P-256',
    );
  }
}

/** The policies in the file that `hardware.policy-signature` names, as of now; none without that setting. Rejects as {@link readSealTo}. */
export async function readApprovedPolicies({ policySignature: path }: Pick<Config, 'policySignature'>): Promise<ApprovedPolicy[]> {
  if (path === undefined) return [];
  try {
    const result = v.safeParse(
      policies,
      readYaml({ code: 'bad_config', what: `reading the approved policies ${path}`, hint: '' }, await readFile(path, 'utf8')),
    );
    if (!result.success) throw new Error(describeIssue(result.issues, 'the file'));
    return result.output.map(({ bank, pcrs, policy, signature }) => ({
      choice: pcrChoice(bank, pcrs),
      policy: Buffer.from(policy, 'hex'),
      signature: tpmSignature(Buffer.from(signature, 'base64')),
    }));
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw fileFailure('reading the approved policies', path, reasonOf(error), "'tpmux host policy-digest' tells what belongs there");
  }
}

/** The key as the chip loads it: for signatures only. */
function publicArea(key: KeyObject): TPMT_PUBLIC {
  const jwk = key.export({ format: 'jwk' });
  const number = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');
  const common = { nameAlg: TPM_ALG.SHA256, objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign, authPolicy: EMPTY } as const;
  if (jwk.kty === 'RSA' && jwk.e === 'AQAB') {
    const unique = number(jwk.n);
    const keyBits = [2048, 3072, 4096].find((bits) => bits === unique.length * 8) as 2048 | 3072 | 4096 | undefined;
    if (keyBits === undefined) throw new Error(`an RSA key of ${(unique.length * 8).toString()} bits is not supported`);
    return { ...common, type: TPM_ALG.RSA, parameters: { symmetric: NO_CIPHER, scheme: NO_SCHEME, keyBits, exponent: 0 }, unique };
  }
  if (jwk.kty !== 'EC' || jwk.crv !== 'P-256') throw new Error('this kind of key is not supported');
  const parameters = { symmetric: NO_CIPHER, scheme: NO_SCHEME, curveID: TPM_ECC_CURVE.NIST_P256, kdf: NO_SCHEME } as const;
  return { ...common, type: TPM_ALG.ECC, parameters, unique: { x: number(jwk.x), y: number(jwk.y) } };
}

/** A signature as openssl makes it: PKCS #1 for RSA, DER for ECDSA; both with SHA-256. */
function tpmSignature(bytes: Buffer): TPMT_SIGNATURE {
  const integers = derIntegers(bytes);
  if (integers === undefined) return { sigAlg: TPM_ALG.RSASSA, signature: { hash: TPM_ALG.SHA256, sig: bytes } };
  const [signatureR, signatureS] = integers;
  return { sigAlg: TPM_ALG.ECDSA, signature: { hash: TPM_ALG.SHA256, signatureR, signatureS } };
}

/** The two 32-byte numbers of an ECDSA signature, or undefined if it is none. */
function derIntegers(bytes: Buffer): [Buffer, Buffer] | undefined {
  const [outer, ...rest] = readElements(bytes) ?? [];
  if (outer?.tag !== DER_TAG.SEQUENCE || rest.length > 0) return undefined;
  const [r, s, ...more] = readElements(outer.content) ?? [];
  if (r?.tag !== DER_TAG.INTEGER || s?.tag !== DER_TAG.INTEGER || more.length > 0) return undefined;
  const fixed = (number: Buffer): Buffer => Buffer.concat([Buffer.alloc(32), number]).subarray(-32);
  return [fixed(r.content), fixed(s.content)];
}

function fileFailure(doing: string, path: string, why: string, hint: string): Failure {
  return new Failure({ code: 'bad_config', what: `${doing} ${path}`, why, hint, exit: EXIT.usage });
}
