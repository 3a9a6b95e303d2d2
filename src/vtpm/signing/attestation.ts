// TPM 2.0 Library Part 1, 31 (attestation) and 36.7 (obfuscation of the counters).
import { TPM_ALG, TPM_GENERATED, TPM_RH } from '../../tpm/constants/index.js';
import { KDFa } from '../../tpm/kdf.js';
import { hash } from '../../tpm/hash.js';
import { nameOfHandle } from '../../tpm/name.js';
import { encode } from '../../tpm/schema.js';
import { TPMS_ATTEST, type TPMS_CLOCK_INFO, type TPMT_SIGNATURE_PLUS } from '../../tpm/structures/index.js';
import { FIRMWARE_VERSION } from '../vendor.js';
import { schemeHash, signDigest, type Signer } from './signing.js';
import type { Tpm } from '../tpm.js';

type Attested = TPMS_ATTEST extends infer A ? (A extends TPMS_ATTEST ? Pick<A, 'type' | 'attested'> : never) : never;

/** The clock as TPM2_ReadClock gives it. */
export function clockInfo(tpm: Tpm): TPMS_CLOCK_INFO {
  const { clock, resetCount, restartCount, safe } = tpm.clock;
  return { clock, resetCount, restartCount, safe: safe ? 1 : 0 };
}

/**
 * Builds the `TPMS_ATTEST` around `what` and signs it: with a digest alone, so the chip never sees a structure of ours.
 * Unless the signer is of the endorsement or platform hierarchy, counters and version are obfuscated by a value that depends on the
 * signer, so that two signers cannot be linked by them.
 */
export async function attest(
  tpm: Tpm,
  signer: Signer,
  qualifyingData: Buffer,
  what: Attested,
): Promise<{ attested: Buffer; signature: TPMT_SIGNATURE_PLUS }> {
  const { key, scheme } = signer;
  const anonymous = scheme.scheme === TPM_ALG.ECDAA;
  const qualifiedSigner = anonymous ? Buffer.alloc(0) : (key?.qualifiedName ?? nameOfHandle(TPM_RH.NULL));
  const structure = {
    magic: TPM_GENERATED,
    qualifiedSigner,
    extraData: anonymous ? Buffer.alloc(0) : qualifyingData,
    clockInfo: clockInfo(tpm),
    firmwareVersion: FIRMWARE_VERSION,
    ...what,
  } as TPMS_ATTEST;
  const identifying = key?.hierarchy === TPM_RH.ENDORSEMENT || key?.hierarchy === TPM_RH.PLATFORM;
  if (!identifying) obfuscate(tpm, structure);
  const attested = encode(TPMS_ATTEST, structure);
  if (key === undefined) return { attested, signature: await signDigest(tpm, signer, attested) };
  const hashAlg = schemeHash(scheme);
  const digest = hash(hashAlg, attested);
  const bound = anonymous && qualifyingData.length > 0 ? hash(hashAlg, qualifyingData, digest) : digest;
  const signature = await signDigest(tpm, signer, bound);
  tpm.power.disorder();
  return { attested, signature };
}

function obfuscate(tpm: Tpm, structure: TPMS_ATTEST): void {
  const mask = KDFa(TPM_ALG.SHA512, tpm.hierarchies.owner.proof, 'OBFUSCATE', structure.qualifiedSigner, Buffer.alloc(0), 128);
  structure.firmwareVersion = BigInt.asUintN(64, structure.firmwareVersion + mask.readBigUInt64LE(0));
  const { resetCount, restartCount } = structure.clockInfo;
  structure.clockInfo.resetCount = (resetCount + mask.readUInt32LE(12)) >>> 0;
  structure.clockInfo.restartCount = (restartCount + mask.readUInt32LE(8)) >>> 0;
}
