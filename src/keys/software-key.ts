// Software keys: what those of all types have in common, and how they are stored.
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import type { TPMS_ECC_POINT, TPMT_RSA_DECRYPT, TPMT_SENSITIVE, TPMT_SIG_SCHEME, TPMT_SIGNATURE } from '../tpm/structures/index.js';
import { Reader, Writer } from '../tpm/wire.js';
import type { PrivatePart, SymmetricSecret } from './engine.js';

/** A secret and its seed as a `TPMT_SENSITIVE` has them; the authorization value is not the engine's. Copies, which the caller zeroizes. */
export interface SensitiveParts {
  readonly sensitiveType: TPMT_SENSITIVE['sensitiveType'];
  readonly seedValue: Buffer;
  /** RSA: one prime. ECC: the scalar. Otherwise data or key. */
  readonly sensitive: Buffer;
}

/** A private part whose secret can be taken out: to duplicate the object, where the guest made it so that it may. */
export interface SoftwarePart extends PrivatePart {
  toSensitive(): SensitiveParts;
}

/** Tag of software keys in blobs. */
export const SOFTWARE_ENGINE_ID = 1;

const FORMAT = 1;

/** Runs `compute` so that what it throws becomes a rejection. */
export function settle<T>(compute: () => T): Promise<T> {
  return new Promise((resolve) => {
    resolve(compute());
  });
}

/**
 * Holds a secret in memory, and is all that a keyedhash or symcipher object needs: the vTPM computes with the secret itself. What
 * only asymmetric keys can do it refuses with `TPM_RC_KEY`.
 */
export class SoftwareKey implements SoftwarePart {
  readonly engineId = SOFTWARE_ENGINE_ID;
  protected readonly secretParts: SymmetricSecret;
  private readonly type: TPMT_SENSITIVE['sensitiveType'];

  /** Takes over the buffers of `secret`: they are zeroized with the key. */
  constructor(type: TPMT_SENSITIVE['sensitiveType'], secret: SymmetricSecret) {
    this.type = type;
    this.secretParts = secret;
  }

  sign(_digest: Buffer, _scheme: TPMT_SIG_SCHEME): Promise<TPMT_SIGNATURE> {
    return unsupported();
  }

  rsaDecrypt(_cipherText: Buffer, _scheme: TPMT_RSA_DECRYPT, _label: Buffer): Promise<Buffer> {
    return unsupported();
  }

  ecdhZGen(_point: TPMS_ECC_POINT): Promise<TPMS_ECC_POINT> {
    return unsupported();
  }

  secret(): Promise<SymmetricSecret> {
    const { seedValue, sensitive } = this.secretParts;
    return Promise.resolve({ seedValue: Buffer.from(seedValue), sensitive: Buffer.from(sensitive) });
  }

  toSensitive(): SensitiveParts {
    const { seedValue, sensitive } = this.secretParts;
    return { sensitiveType: this.type, seedValue: Buffer.from(seedValue), sensitive: Buffer.from(sensitive) };
  }

  /** One byte of format, then `TPM2B` of the seed and of the secret. */
  serialize(): Buffer {
    const { seedValue, sensitive } = this.secretParts;
    const writer = new Writer(5 + seedValue.length + sensitive.length);
    writer.uint8(FORMAT);
    for (const part of [seedValue, sensitive]) {
      writer.uint16(part.length);
      writer.raw(part);
    }
    return writer.finish();
  }

  dispose(): void {
    this.secretParts.seedValue.fill(0);
    this.secretParts.sensitive.fill(0);
  }
}

function unsupported(): Promise<never> {
  return Promise.reject(new TpmError(TPM_RC.KEY));
}

/** What {@link SoftwareKey.serialize} wrote, copied. `TPM_RC_FAILURE` if it is of an unknown format; `TPM_RC_INSUFFICIENT`, `TPM_RC_SIZE`. */
export function parseSecret(serialized: Buffer): SymmetricSecret {
  const reader = new Reader(serialized);
  if (reader.uint8() !== FORMAT) throw new TpmError(TPM_RC.FAILURE);
  const part = (): Buffer => Buffer.from(reader.view(reader.uint16()));
  const secret = { seedValue: part(), sensitive: part() };
  if (reader.remaining > 0) throw new TpmError(TPM_RC.SIZE);
  return secret;
}
