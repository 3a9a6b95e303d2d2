// The key engine that holds keys in this process's memory: the NULL hierarchy, derived keys, objects that a guest loads with their
// sensitive area, and what the chip cannot do.
//
// Secrets are in buffers that are zeroized. While a key is used OpenSSL has a copy of its own, and BigInt copies of it, which nothing
// can zeroize, stay in memory until they are collected.
import { randomBytes } from 'node:crypto';
import { getCurve, findCurve } from '../crypto/ecc-curves.js';
import { generateEccKey, multiplyBase } from '../crypto/ecc.js';
import { randomScalar, toBytes } from '../crypto/big-integer.js';
import { DerivationStream, type RandomBytes } from '../crypto/random.js';
import { deriveRsaKey, generateRsaKey, SOFTWARE_RSA_BITS } from '../crypto/rsa-key.js';
import { isCipher } from '../tpm/block-cipher.js';
import { orCanceled } from '../tpm/canceled.js';
import { TPM_ALG } from '../tpm/constants/index.js';
import { digestSize } from '../tpm/hash.js';
import type { TPMT_PUBLIC, TPMT_SENSITIVE } from '../tpm/structures/index.js';
import type { CreatedKey, CreateRequest, KeyEngine, SymmetricSecret } from './engine.js';
import { checkPublicArea, checkSensitiveArea } from './key-binding.js';
import { SoftwareEccKey } from './software-ecc.js';
import { parseSecret, settle, SOFTWARE_ENGINE_ID, SoftwareKey, type SoftwarePart } from './software-key.js';
import { SoftwareRsaKey } from './software-rsa.js';
import { createSymmetricSecret, isParent } from './symmetric-secret.js';

type PublicOf<T extends TPMT_PUBLIC['type']> = Extract<TPMT_PUBLIC, { type: T }>;

/** A {@link CreatedKey} of this engine. */
export interface CreatedSoftwareKey extends CreatedKey {
  readonly privatePart: SoftwarePart;
}

/** See the head of this file. */
export class SoftwareEngine implements KeyEngine {
  readonly id = SOFTWARE_ENGINE_ID;
  /**
   * @param random yields seeds and symmetric keys; asymmetric keys are OpenSSL's
   * @param signal is aborted when nobody waits for what is made any more; then {@link create} rejects with `TPM_RC_CANCELED`
   */
  constructor(
    private readonly random: RandomBytes = randomBytes,
    private readonly signal: () => AbortSignal | undefined = () => undefined,
  ) {}

  supports(publicArea: TPMT_PUBLIC): boolean {
    switch (publicArea.type) {
      case TPM_ALG.RSA:
        return SOFTWARE_RSA_BITS.includes(publicArea.parameters.keyBits);
      case TPM_ALG.ECC:
        return findCurve(publicArea.parameters.curveID) !== undefined;
      case TPM_ALG.SYMCIPHER:
        return isCipher(publicArea.parameters.sym.algorithm, publicArea.parameters.sym.keyBits ?? 0);
      default:
        return true;
    }
  }

  /**
   * Makes a key, at random or as a function of `derivation`. `TPM_RC_KEY_SIZE` and `TPM_RC_RANGE` (RSA), `TPM_RC_CURVE` (ECC); errors of
   * {@link createSymmetricSecret}.
   */
  create(request: CreateRequest): Promise<CreatedSoftwareKey> {
    return orCanceled(this.make(request), this.signal(), ({ privatePart }) => {
      privatePart.dispose();
    });
  }

  /** As {@link create}, whoever waits. */
  protected async make({ publicArea, sensitiveData, derivation }: CreateRequest): Promise<CreatedSoftwareKey> {
    if (derivation === undefined) return this.createFrom(publicArea, sensitiveData, undefined);
    const stream = new DerivationStream(derivation.seed, derivation.context, 'tpmux software key');
    try {
      return await this.createFrom(publicArea, sensitiveData, stream.bytes);
    } finally {
      stream.dispose();
    }
  }

  restore(publicArea: TPMT_PUBLIC, serialized: Buffer): SoftwarePart {
    return this.hold(publicArea, parseSecret(serialized));
  }

  /**
   * The private part of an object whose sensitive area comes from outside (`LoadExternal`, `Import`); the area is copied. Errors of
   * {@link checkPublicArea} and {@link checkSensitiveArea}; a caller that has to tell the parameters apart calls those first.
   */
  fromSensitive(publicArea: TPMT_PUBLIC, area: TPMT_SENSITIVE): SoftwarePart {
    checkPublicArea(publicArea, false);
    checkSensitiveArea(publicArea, area);
    return this.hold(publicArea, { seedValue: Buffer.from(area.seedValue), sensitive: Buffer.from(area.sensitive) });
  }

  adopt(publicArea: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE): Promise<SoftwarePart> {
    return settle(() => this.fromSensitive(publicArea, sensitive));
  }

  private hold(publicArea: TPMT_PUBLIC, secret: SymmetricSecret): SoftwarePart {
    switch (publicArea.type) {
      case TPM_ALG.RSA:
        return new SoftwareRsaKey(publicArea.unique, publicArea.parameters.exponent, secret);
      case TPM_ALG.ECC:
        return new SoftwareEccKey(getCurve(publicArea.parameters.curveID), secret);
      default:
        return new SoftwareKey(publicArea.type, secret);
    }
  }

  private async createFrom(publicArea: TPMT_PUBLIC, data: Buffer, derive: RandomBytes | undefined): Promise<CreatedSoftwareKey> {
    switch (publicArea.type) {
      case TPM_ALG.RSA:
        return this.createRsa(publicArea, derive);
      case TPM_ALG.ECC:
        return this.createEcc(publicArea, derive);
      default: {
        const made = createSymmetricSecret(publicArea, data, derive ?? this.random);
        return { publicArea: made.publicArea, privatePart: this.hold(made.publicArea, made.secret) };
      }
    }
  }

  private async createRsa(publicArea: PublicOf<typeof TPM_ALG.RSA>, derive: RandomBytes | undefined): Promise<CreatedSoftwareKey> {
    const { keyBits, exponent } = publicArea.parameters;
    const key = await (derive === undefined ? generateRsaKey(keyBits, exponent) : deriveRsaKey(keyBits, exponent, derive));
    const created = { ...publicArea, unique: key.modulus };
    const secret = { seedValue: this.parentSeed(publicArea, derive), sensitive: key.prime };
    return { publicArea: created, privatePart: this.hold(created, secret) };
  }

  private createEcc(publicArea: PublicOf<typeof TPM_ALG.ECC>, derive: RandomBytes | undefined): CreatedSoftwareKey {
    const curve = getCurve(publicArea.parameters.curveID);
    const d = derive === undefined ? undefined : toBytes(randomScalar(curve.n, derive), curve.orderBytes);
    const pair = d === undefined ? generateEccKey(curve) : { d, point: multiplyBase(curve, d) };
    const created = { ...publicArea, unique: { x: pair.point.x, y: pair.point.y } };
    const secret = { seedValue: this.parentSeed(publicArea, derive), sensitive: pair.d };
    return { publicArea: created, privatePart: this.hold(created, secret) };
  }

  /** Only an asymmetric key that is a parent has a seed. */
  private parentSeed(publicArea: TPMT_PUBLIC, derive: RandomBytes | undefined): Buffer {
    return isParent(publicArea) ? (derive ?? this.random)(digestSize(publicArea.nameAlg)) : Buffer.alloc(0);
  }
}
