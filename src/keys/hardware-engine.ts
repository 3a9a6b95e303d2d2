// Key engine: private keys live in the hardware TPM, as unrestricted keys below the guest's root.
import { randomBytes } from 'node:crypto';
import { findCurve, getCurve } from '../crypto/ecc-curves.js';
import type { RandomBytes } from '../crypto/random.js';
import { ChipError } from '../hardware/chip/errors.js';
import type { GuestChip } from '../hardware/guest/guest-chip.js';
import type { LoadableKey } from '../hardware/turns/slots.js';
import { guestKeyPublic, isDuplicable, type AsymmetricPublic } from '../hardware/host/templates.js';
import { MAX_PRIVATE_SIZE, TPM_ALG, TPMA_OBJECT } from '../tpm/constants/index.js';
import { digestSize } from '../tpm/hash.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { decode, encode, struct, tpm2b, uint8, type Infer } from '../tpm/schema.js';
import { TPM2B_DIGEST, TPMT_PUBLIC } from '../tpm/structures/index.js';
import type { TPMS_ECC_POINT, TPMT_RSA_DECRYPT, TPMT_SENSITIVE, TPMT_SIGNATURE, TPMT_SIG_SCHEME } from '../tpm/structures/index.js';
import { asGuestErrors, type KeyLog } from './chip-answers.js';
import { ecdsaForm, oaepForm, pointForm, rsaSignatureForm, type Unpad } from './chip-forms.js';
import type { CreatedKey, CreateRequest, KeyEngine, PrivatePart, SymmetricSecret } from './engine.js';
import { createSealedSecret, HardwareSecret, sealSecret } from './hardware-secret.js';

/** {@link KeyEngine.id} of the hardware engine. */
export const HARDWARE_ENGINE_ID = 2;
/** {@link KeyEngine.id} of the hardware engine whose keys never leave the chip. */
export const ANCHORED_ENGINE_ID = 3;

const FORMAT = 1;
const DEFAULT_EXPONENT = 65537;
const EMPTY = Buffer.alloc(0);

/** What {@link PrivatePart.serialize} of an asymmetric key gives. */
const SERIALIZED = struct({
  format: uint8,
  /** The chip's `TPM2B_PRIVATE`. */
  privateBlob: tpm2b(MAX_PRIVATE_SIZE),
  /** The chip's public area, if that does not follow from the guest's: the chip did not make quite what it was asked for. */
  chipPublic: tpm2b(1024),
  /** `seedValue` of a key that came from outside. */
  seedValue: TPM2B_DIGEST,
});
type Serialized = Infer<typeof SERIALIZED>;

/** Signature schemes that need nothing but one `TPM2_Sign`. */
const SIGNATURE_SCHEMES: ReadonlySet<number> = new Set([TPM_ALG.RSASSA, TPM_ALG.RSAPSS, TPM_ALG.ECDSA]);
const KEY_SCHEMES: ReadonlySet<number> = new Set([...SIGNATURE_SCHEMES, TPM_ALG.NULL, TPM_ALG.RSAES, TPM_ALG.OAEP, TPM_ALG.ECDH]);

/** Makes keys of one guest in the chip. Asymmetric keys are the chip's; symmetric secrets are encrypted for it and used in software. */
export class HardwareEngine implements KeyEngine {
  readonly id: number;
  private readonly chip: GuestChip;
  private readonly log: KeyLog;
  private readonly draw: RandomBytes;

  /** @param draw randomness for symmetric secrets */
  constructor(chip: GuestChip, log: KeyLog, draw: RandomBytes = randomBytes) {
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
    if (isAsymmetric(publicArea)) return await asGuestErrors(this.chip, this.log, () => this.createAsymmetric(publicArea));
    const made = createSealedSecret(this.chip, publicArea, sensitiveData, this.draw);
    return { publicArea: made.publicArea, privatePart: this.restore(made.publicArea, made.serialized) };
  }

  async adopt(publicArea: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE): Promise<PrivatePart> {
    this.requireSupported(publicArea);
    if (!isAsymmetric(publicArea)) return this.restore(publicArea, sealSecret(this.chip, sensitive));
    return await asGuestErrors(this.chip, this.log, async () => {
      const seedValue = Buffer.from(sensitive.seedValue);
      const secret = { ...sensitive, sensitive: secretForm(publicArea, sensitive.sensitive) };
      const { privateBlob } = await this.chip.import(guestKeyPublic(this.chip.rootPublic, publicArea), secret);
      return this.part(publicArea, { format: FORMAT, privateBlob, chipPublic: EMPTY, seedValue });
    });
  }

  restore(publicArea: TPMT_PUBLIC, serialized: Buffer): PrivatePart {
    if (!isAsymmetric(publicArea)) return new HardwareSecret(this.id, this.chip, this.log, publicArea, serialized);
    const stored = decode(SERIALIZED, Buffer.from(serialized));
    if (stored.format !== FORMAT) throw new TpmError(TPM_RC.INTEGRITY);
    return this.part(publicArea, stored);
  }

  private async createAsymmetric(template: AsymmetricPublic): Promise<CreatedKey> {
    const blobs = await this.chip.create(guestKeyPublic(this.chip.rootPublic, withoutUnique(template)));
    const made = decode(TPMT_PUBLIC, blobs.publicArea, true);
    if (!isAsymmetric(made) || made.type !== template.type) throw new Error('the TPM made a key of another type');
    const publicArea = { ...template, unique: made.unique } as AsymmetricPublic;
    const rebuilt = encode(TPMT_PUBLIC, guestKeyPublic(this.chip.rootPublic, publicArea));
    const chipPublic = rebuilt.equals(blobs.publicArea) ? EMPTY : blobs.publicArea;
    const stored = { format: FORMAT, privateBlob: blobs.privateBlob, chipPublic, seedValue: EMPTY };
    return { publicArea, privatePart: this.part(publicArea, stored) };
  }

  private part(publicArea: AsymmetricPublic, stored: Serialized): PrivatePart {
    return new HardwarePrivatePart(this.id, this.chip, this.log, publicArea, this.chipKey(publicArea, stored), stored);
  }

  private chipKey(publicArea: AsymmetricPublic, { privateBlob, chipPublic }: Serialized): LoadableKey {
    const { rootPublic } = this.chip;
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
  private readonly log: KeyLog;
  private readonly publicArea: AsymmetricPublic;
  private readonly key: LoadableKey;
  private readonly stored: Serialized;

  constructor(engineId: number, chip: GuestChip, log: KeyLog, publicArea: AsymmetricPublic, key: LoadableKey, stored: Serialized) {
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
    const { hashAlg } = details;
    if (digest.length !== digestSize(hashAlg)) throw new TpmError(TPM_RC.SIZE);
    const { algorithms } = this.chip.info;
    if (this.publicArea.type === TPM_ALG.RSA) {
      const encoded = rsaSignatureForm(algorithms, this.publicArea.parameters.keyBits, digest, scheme);
      if (encoded === undefined) return await this.chipSign(digest, scheme);
      return { sigAlg: scheme.scheme, signature: { hash: hashAlg, sig: await this.rawRsa(encoded) } } as TPMT_SIGNATURE;
    }
    const form = ecdsaForm(algorithms, getCurve(this.publicArea.parameters.curveID), digest, hashAlg);
    const made = await this.chipSign(form.digest, { scheme: scheme.scheme, details: { hashAlg: form.hashAlg } } as TPMT_SIG_SCHEME);
    return { ...made, signature: { ...made.signature, hash: hashAlg } } as TPMT_SIGNATURE;
  }

  private chipSign(digest: Buffer, scheme: TPMT_SIG_SCHEME): Promise<TPMT_SIGNATURE> {
    return asGuestErrors(this.chip, this.log, () => this.chip.sign(this.key, digest, scheme));
  }

  /** `value ^ d mod n`, as long as the modulus; the caller has checked that the value is less. */
  private async rawRsa(value: Buffer): Promise<Buffer> {
    const scheme = { scheme: TPM_ALG.NULL, details: null } as const;
    return padTo(await asGuestErrors(this.chip, this.log, () => this.chip.rsaDecrypt(this.key, value, scheme, EMPTY)), value.length);
  }

  async rsaDecrypt(cipherText: Buffer, scheme: TPMT_RSA_DECRYPT, label: Buffer): Promise<Buffer> {
    if (this.publicArea.type !== TPM_ALG.RSA) throw new TpmError(TPM_RC.KEY);
    if (cipherText.length !== this.publicArea.parameters.keyBits / 8) throw new TpmError(TPM_RC.SIZE);
    if (Buffer.compare(cipherText, this.publicArea.unique) >= 0) throw new TpmError(TPM_RC.VALUE);
    if (scheme.scheme === TPM_ALG.NULL) return await this.rawRsa(cipherText);
    const unpad = oaepForm(this.chip.info.algorithms, scheme, label);
    if (unpad !== undefined) return await this.unpadded(cipherText, unpad);
    return await asGuestErrors(this.chip, this.log, () =>
      this.chip.rsaDecrypt(this.key, cipherText, scheme, label).catch((error: unknown) => {
        throw isPaddingError(error) ? new TpmError(TPM_RC.VALUE) : error;
      }),
    );
  }

  private async unpadded(cipherText: Buffer, unpad: Unpad): Promise<Buffer> {
    const encoded = await this.rawRsa(cipherText);
    try {
      return unpad(encoded);
    } finally {
      encoded.fill(0);
    }
  }

  async ecdhZGen(point: TPMS_ECC_POINT): Promise<TPMS_ECC_POINT> {
    if (this.publicArea.type !== TPM_ALG.ECC) throw new TpmError(TPM_RC.KEY);
    const { curveID } = this.publicArea.parameters;
    const inPoint = pointForm(curveID, point);
    const size = inPoint.x.length;
    const { x, y } = await asGuestErrors(this.chip, this.log, () => this.chip.ecdhZGen(this.key, inPoint));
    return { x: padTo(x, size), y: padTo(y, size) };
  }

  async secret(): Promise<SymmetricSecret> {
    if (!isDuplicable(this.publicArea) || this.engineId === ANCHORED_ENGINE_ID) throw new TpmError(TPM_RC.ATTRIBUTES);
    const sensitive = await asGuestErrors(this.chip, this.log, () => this.chip.extract(this.key));
    return { seedValue: Buffer.from(this.stored.seedValue), sensitive };
  }

  serialize(): Buffer {
    return encode(SERIALIZED, this.stored);
  }

  dispose(): void {
    this.stored.seedValue.fill(0);
  }
}

/** Some chips (those with libtpms) say FAILURE instead of VALUE to a wrong padding, without having failed. */
function isPaddingError(error: unknown): boolean {
  return error instanceof ChipError && error.code === TPM_RC.FAILURE;
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

/** A scalar as long as the order of its curve, as every chip takes it; a prime has its size already. A view, or padded. */
function secretForm(publicArea: AsymmetricPublic, secret: Buffer): Buffer {
  if (publicArea.type === TPM_ALG.RSA) return secret;
  const size = getCurve(publicArea.parameters.curveID).orderBytes;
  return secret.length > size ? secret.subarray(secret.length - size) : padTo(secret, size);
}

function padTo(number: Buffer, size: number): Buffer {
  return number.length >= size ? number : Buffer.concat([Buffer.alloc(size - number.length), number]);
}
