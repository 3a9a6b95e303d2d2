// Key engine: private keys live in the hardware TPM, as unrestricted keys below the guest's root.
import { randomBytes } from 'node:crypto';
import { findCurve } from '../crypto/ecc-curves.js';
import type { RandomBytes } from '../crypto/random.js';
import type { ChipLog } from '../hardware/chip/connection.js';
import { ChipError, ChipRestarted, ChipUnavailable } from '../hardware/chip/errors.js';
import type { GuestChip } from '../hardware/guest/guest-chip.js';
import type { LoadableKey } from '../hardware/turns/slots.js';
import { guestKeyPublic, isDuplicable, sealedPublic, type AsymmetricPublic } from '../hardware/host/templates.js';
import { MAX_PRIVATE_SIZE, TPM_ALG, TPMA_OBJECT } from '../tpm/constants/index.js';
import { digestSize } from '../tpm/hash.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { decode, encode, struct, tpm2b, uint8, type Infer } from '../tpm/schema.js';
import { TPM2B_DIGEST, TPMT_PUBLIC } from '../tpm/structures/index.js';
import type { TPMS_ECC_POINT, TPMT_RSA_DECRYPT, TPMT_SENSITIVE, TPMT_SIGNATURE, TPMT_SIG_SCHEME } from '../tpm/structures/index.js';
import type { CreatedKey, CreateRequest, KeyEngine, PrivatePart, SymmetricSecret } from './engine.js';
import { createSymmetricSecret, type SymmetricPublic } from './symmetric-secret.js';

/** {@link KeyEngine.id} of the hardware engine. */
export const HARDWARE_ENGINE_ID = 2;
/** {@link KeyEngine.id} of the hardware engine whose keys never leave the chip. */
export const ANCHORED_ENGINE_ID = 3;

const FORMAT = 1;
const DEFAULT_EXPONENT = 65537;
const EMPTY = Buffer.alloc(0);

/** What {@link PrivatePart.serialize} of a hardware key gives. */
const SERIALIZED = struct({
  format: uint8,
  /** 1 if the key came from outside, 0 if the chip made it. */
  /** The chip's `TPM2B_PRIVATE`. */
  privateBlob: tpm2b(MAX_PRIVATE_SIZE),
  /**
   * What the guest's public area does not tell of the chip's: `unique` of a sealed object; of an asymmetric key nothing, or the
   * whole public area if the chip did not make quite what it was asked for.
   */
  chipPublic: tpm2b(1024),
  /** `seedValue` of a symmetric object, or of one that came from outside. */
  seedValue: TPM2B_DIGEST,
});
type Serialized = Infer<typeof SERIALIZED>;

/** Signature schemes that need nothing but one `TPM2_Sign`. */
const SIGNATURE_SCHEMES: ReadonlySet<number> = new Set([TPM_ALG.RSASSA, TPM_ALG.RSAPSS, TPM_ALG.ECDSA]);
const KEY_SCHEMES: ReadonlySet<number> = new Set([...SIGNATURE_SCHEMES, TPM_ALG.NULL, TPM_ALG.RSAES, TPM_ALG.OAEP, TPM_ALG.ECDH]);

/** What the chip says about the guest's input; anything else is the chip's trouble, or ours. */
const GUEST_ERRORS: ReadonlySet<number> = new Set([
  TPM_RC.VALUE,
  TPM_RC.SIZE,
  TPM_RC.SCHEME,
  TPM_RC.HASH,
  TPM_RC.KEY_SIZE,
  TPM_RC.RANGE,
  TPM_RC.CURVE,
  TPM_RC.ECC_POINT,
  TPM_RC.NO_RESULT,
]);
/** What passes: the guest is asked to try again. */
const PASSING_ERRORS: ReadonlySet<number> = new Set([
  TPM_RC.RETRY,
  TPM_RC.YIELDED,
  TPM_RC.TESTING,
  TPM_RC.CANCELED,
  TPM_RC.NV_RATE,
  TPM_RC.OBJECT_MEMORY,
  TPM_RC.OBJECT_HANDLES,
  TPM_RC.SESSION_MEMORY,
  TPM_RC.SESSION_HANDLES,
  TPM_RC.MEMORY,
]);

/** Makes keys of one guest in the chip. Asymmetric keys are the chip's; symmetric secrets are sealed by it and used in software. */
export class HardwareEngine implements KeyEngine {
  readonly id: number;
  private readonly chip: GuestChip;
  private readonly log: ChipLog;
  private readonly draw: RandomBytes;

  /** @param draw randomness for symmetric secrets */
  constructor(chip: GuestChip, log: ChipLog, draw: RandomBytes = randomBytes) {
    this.id = (chip.rootPublic.objectAttributes & TPMA_OBJECT.fixedTPM) === 0 ? HARDWARE_ENGINE_ID : ANCHORED_ENGINE_ID;
    this.chip = chip;
    this.log = log;
    this.draw = draw;
  }

  supports(publicArea: TPMT_PUBLIC): boolean {
    const { info } = this.chip;
    switch (publicArea.type) {
      case TPM_ALG.RSA: {
        const { keyBits, exponent, scheme } = publicArea.parameters;
        return info.rsaKeyBits.has(keyBits) && isDefaultExponent(exponent) && KEY_SCHEMES.has(scheme.scheme);
      }
      case TPM_ALG.ECC: {
        const { curveID, scheme } = publicArea.parameters;
        return info.curves.has(curveID) && isNistCurve(curveID) && KEY_SCHEMES.has(scheme.scheme);
      }
      default:
        return true;
    }
  }

  async create({ publicArea, sensitiveData, derivation }: CreateRequest): Promise<CreatedKey> {
    if (derivation !== undefined) throw new Error('keys in the TPM are random: a derived key is made in software');
    this.requireSupported(publicArea);
    return await asGuestErrors(this.chip, this.log, () =>
      isAsymmetric(publicArea) ? this.createAsymmetric(publicArea) : this.createSymmetric(publicArea, sensitiveData),
    );
  }

  async adopt(publicArea: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE): Promise<PrivatePart> {
    this.requireSupported(publicArea);
    return await asGuestErrors(this.chip, this.log, async () => {
      const seedValue = Buffer.from(sensitive.seedValue);
      if (!isAsymmetric(publicArea)) return await this.seal(publicArea, { seedValue, sensitive: sensitive.sensitive });
      const { privateBlob } = await this.chip.import(guestKeyPublic(this.chip.rootPublic, publicArea), sensitive);
      return this.part(publicArea, { format: FORMAT, privateBlob, chipPublic: EMPTY, seedValue });
    });
  }

  restore(publicArea: TPMT_PUBLIC, serialized: Buffer): PrivatePart {
    const stored = decode(SERIALIZED, Buffer.from(serialized));
    if (stored.format !== FORMAT) throw new TpmError(TPM_RC.INTEGRITY);
    return this.part(publicArea, stored);
  }

  private async createAsymmetric(template: AsymmetricPublic): Promise<CreatedKey> {
    const blobs = await this.chip.create(guestKeyPublic(this.chip.rootPublic, withoutUnique(template)), EMPTY);
    const made = decode(TPMT_PUBLIC, blobs.publicArea, true);
    if (!isAsymmetric(made) || made.type !== template.type) throw new Error('the TPM made a key of another type');
    const publicArea = { ...template, unique: made.unique } as AsymmetricPublic;
    const rebuilt = encode(TPMT_PUBLIC, guestKeyPublic(this.chip.rootPublic, publicArea));
    const chipPublic = rebuilt.equals(blobs.publicArea) ? EMPTY : blobs.publicArea;
    const stored = { format: FORMAT, privateBlob: blobs.privateBlob, chipPublic, seedValue: EMPTY };
    return { publicArea, privatePart: this.part(publicArea, stored) };
  }

  private async createSymmetric(template: SymmetricPublic, sensitiveData: Buffer): Promise<CreatedKey> {
    const { publicArea, secret } = createSymmetricSecret(template, sensitiveData, this.draw);
    try {
      return { publicArea, privatePart: await this.seal(publicArea, secret) };
    } finally {
      secret.sensitive.fill(0);
      secret.seedValue.fill(0);
    }
  }

  /** Seals a symmetric secret in the chip; copies what is kept. */
  private async seal(publicArea: SymmetricPublic, { seedValue, sensitive }: SymmetricSecret): Promise<PrivatePart> {
    const { privateBlob, publicArea: chipPublic } = await this.chip.create(sealedPublic(this.chip.rootPublic), sensitive);
    const made = decode(TPMT_PUBLIC, chipPublic, true);
    if (made.type !== TPM_ALG.KEYEDHASH) throw new Error('the TPM made an object of another type');
    const stored = { format: FORMAT, privateBlob, chipPublic: made.unique, seedValue: Buffer.from(seedValue) };
    return this.part(publicArea, stored);
  }

  private part(publicArea: TPMT_PUBLIC, stored: Serialized): PrivatePart {
    return new HardwarePrivatePart(this.id, this.chip, this.log, publicArea, this.chipKey(publicArea, stored), stored);
  }

  private chipKey(publicArea: TPMT_PUBLIC, { privateBlob, chipPublic }: Serialized): LoadableKey {
    const { rootPublic } = this.chip;
    if (!isAsymmetric(publicArea)) return this.chip.key(sealedPublic(rootPublic, chipPublic), privateBlob);
    if (chipPublic.length > 0) return this.chip.key(decode(TPMT_PUBLIC, chipPublic, true), privateBlob);
    return this.chip.key(guestKeyPublic(rootPublic, publicArea), privateBlob);
  }

  private requireSupported(publicArea: TPMT_PUBLIC): void {
    if (this.supports(publicArea)) return;
    if (publicArea.type === TPM_ALG.RSA) {
      const { keyBits, exponent } = publicArea.parameters;
      if (!this.chip.info.rsaKeyBits.has(keyBits)) throw new TpmError(TPM_RC.KEY_SIZE);
      throw new TpmError(isDefaultExponent(exponent) ? TPM_RC.SCHEME : TPM_RC.RANGE);
    }
    if (publicArea.type !== TPM_ALG.ECC) throw new TpmError(TPM_RC.TYPE);
    const { curveID } = publicArea.parameters;
    throw new TpmError(this.chip.info.curves.has(curveID) && isNistCurve(curveID) ? TPM_RC.SCHEME : TPM_RC.CURVE);
  }
}

class HardwarePrivatePart implements PrivatePart {
  readonly engineId: number;
  private readonly chip: GuestChip;
  private readonly log: ChipLog;
  private readonly publicArea: TPMT_PUBLIC;
  private readonly key: LoadableKey;
  private readonly stored: Serialized;

  constructor(engineId: number, chip: GuestChip, log: ChipLog, publicArea: TPMT_PUBLIC, key: LoadableKey, stored: Serialized) {
    this.engineId = engineId;
    this.chip = chip;
    this.log = log;
    this.publicArea = publicArea;
    this.key = key;
    this.stored = stored;
  }

  async sign(digest: Buffer, scheme: TPMT_SIG_SCHEME): Promise<TPMT_SIGNATURE> {
    const { details } = scheme;
    if (!SIGNATURE_SCHEMES.has(scheme.scheme) || details === null) throw new TpmError(TPM_RC.SCHEME);
    if (digest.length !== digestSize(details.hashAlg)) throw new TpmError(TPM_RC.SIZE);
    return await asGuestErrors(this.chip, this.log, () => this.chip.sign(this.key, digest, scheme));
  }

  async rsaDecrypt(cipherText: Buffer, scheme: TPMT_RSA_DECRYPT, label: Buffer): Promise<Buffer> {
    if (this.publicArea.type !== TPM_ALG.RSA) throw new TpmError(TPM_RC.KEY);
    if (cipherText.length !== this.publicArea.parameters.keyBits / 8) throw new TpmError(TPM_RC.SIZE);
    const message = await asGuestErrors(this.chip, this.log, () =>
      this.chip.rsaDecrypt(this.key, cipherText, scheme, label).catch((error: unknown) => {
        throw isPaddingError(error, scheme) ? new TpmError(TPM_RC.VALUE) : error;
      }),
    );
    return scheme.scheme === TPM_ALG.NULL ? padTo(message, cipherText.length) : message;
  }

  async ecdhZGen(point: TPMS_ECC_POINT): Promise<TPMS_ECC_POINT> {
    if (this.publicArea.type !== TPM_ALG.ECC) throw new TpmError(TPM_RC.KEY);
    const size = findCurve(this.publicArea.parameters.curveID)?.bytes ?? 0;
    const { x, y } = await asGuestErrors(this.chip, this.log, () => this.chip.ecdhZGen(this.key, point));
    return { x: padTo(x, size), y: padTo(y, size) };
  }

  async secret(): Promise<SymmetricSecret> {
    if (isAsymmetric(this.publicArea)) {
      if (!isDuplicable(this.publicArea) || this.engineId === ANCHORED_ENGINE_ID) throw new TpmError(TPM_RC.ATTRIBUTES);
      const sensitive = await asGuestErrors(this.chip, this.log, () => this.chip.extract(this.key));
      return { seedValue: Buffer.from(this.stored.seedValue), sensitive };
    }
    const sensitive = await asGuestErrors(this.chip, this.log, () => this.chip.unseal(this.key));
    return { seedValue: Buffer.from(this.stored.seedValue), sensitive };
  }

  serialize(): Buffer {
    return encode(SERIALIZED, this.stored);
  }

  dispose(): void {
    this.stored.seedValue.fill(0);
  }
}

/** Runs `use`; what the chip says becomes the bare code that the guest gets, and is logged where it is not about the guest's input. */
async function asGuestErrors<T>(chip: GuestChip, log: ChipLog, use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    if (error instanceof TpmError) throw error;
    if (error instanceof ChipError && GUEST_ERRORS.has(error.base)) throw new TpmError(error.base);
    log.warn(`guest ${chip.account.guest}: ${error instanceof Error ? error.message : String(error)}`);
    const passes = error instanceof ChipError ? PASSING_ERRORS.has(error.base) : isRestart(error);
    throw new TpmError(passes ? TPM_RC.RETRY : TPM_RC.FAILURE);
  }
}

/** Some chips (those with libtpms) say FAILURE instead of VALUE to a wrong padding, without having failed. */
function isPaddingError(error: unknown, { scheme }: TPMT_RSA_DECRYPT): boolean {
  return scheme !== TPM_ALG.NULL && error instanceof ChipError && error.code === TPM_RC.FAILURE;
}

function isRestart(error: unknown): boolean {
  return error instanceof ChipRestarted || error instanceof ChipUnavailable;
}

function isAsymmetric(publicArea: TPMT_PUBLIC): publicArea is AsymmetricPublic {
  return publicArea.type === TPM_ALG.RSA || publicArea.type === TPM_ALG.ECC;
}

function withoutUnique(template: AsymmetricPublic): AsymmetricPublic {
  return template.type === TPM_ALG.RSA ? { ...template, unique: EMPTY } : { ...template, unique: { x: EMPTY, y: EMPTY } };
}

/** Curves on which the chip does what software would: not those with schemes of their own. */
function isNistCurve(curveID: number): boolean {
  return findCurve(curveID) !== undefined && curveID < 0x10;
}

function isDefaultExponent(exponent: number): boolean {
  return exponent === 0 || exponent === DEFAULT_EXPONENT;
}

function padTo(number: Buffer, size: number): Buffer {
  return number.length >= size ? number : Buffer.concat([Buffer.alloc(size - number.length), number]);
}
