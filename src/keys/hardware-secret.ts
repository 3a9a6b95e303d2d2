// The secrets of a guest's symmetric objects (sealed data, HMAC and cipher keys), encrypted for a P-256 key of the guest's in the chip: one
// ECDH_ZGen opens any of them. Nothing else would be small enough for a trusted key of Linux, which takes at most 512 bytes of an answer to
// TPM2_Create: sealed by the chip, 64 bytes become 191 and the chip's public area.
//
//   form (1) || ephemeral point, compressed (33) || AES-256-CTR(key, plaintext)
//   key, seed = from KDFe(SHA-256, Z, "TPMUX", ephemeral point, chip's key)                                             (Part 1, 11.4.10.3)
//   plaintext = secret                                       (DERIVED: the seedValue is the seed)
//               size of seedValue (1) || seedValue || secret (GIVEN: the object came from outside)
//
// What holds it, and tells changes, is the private blob (blob.ts) or the guest's state.
import { createCipheriv, ECDH, hkdfSync } from 'node:crypto';
import { decapsulate, encapsulate } from '../crypto/secrets.js';
import type { GuestChip } from '../hardware/guest/guest-chip.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { decode, encode } from '../tpm/schema.js';
import { TPMS_ECC_POINT, type TPMS_ECC_POINT as EccPoint, type TPMT_SIGNATURE } from '../tpm/structures/index.js';
import { digestSize } from '../tpm/hash.js';
import { asGuestErrors, type KeyLog } from './chip-answers.js';
import type { PrivatePart, SymmetricSecret } from './engine.js';
import { createSymmetricSecret, type SymmetricPublic } from './symmetric-secret.js';
import type { RandomBytes } from '../crypto/random.js';

const FORM = { DERIVED: 2, GIVEN: 3 } as const;
const POINT_SIZE = 33;
const HEAD_SIZE = 1 + POINT_SIZE;
const CURVE = 'prime256v1';

/** What one encapsulated secret gives. */
interface Derived {
  readonly key: Buffer;
  readonly seedValue: Buffer;
}

/** A symmetric object, and what {@link PrivatePart.serialize} gives of its secret. */
export interface SealedSecret<P> {
  readonly publicArea: P;
  readonly serialized: Buffer;
}

/** Makes the secret of a symmetric object, as {@link createSymmetricSecret} does, for the chip to open. Sends it no command. */
export function createSealedSecret<P extends SymmetricPublic>(
  chip: GuestChip,
  template: P,
  data: Buffer,
  draw: RandomBytes,
): SealedSecret<P> {
  const { point, key, seedValue } = encapsulateFor(chip, digestSize(template.nameAlg));
  try {
    const { publicArea, secret } = createSymmetricSecret(template, data, draw, () => seedValue);
    const serialized = Buffer.concat([Buffer.of(FORM.DERIVED), point, crypt(key, secret.sensitive)]);
    secret.sensitive.fill(0);
    return { publicArea, serialized };
  } finally {
    for (const used of [key, seedValue]) used.fill(0);
  }
}

/** As {@link createSealedSecret}, with a secret from outside, which stays the caller's. */
export function sealSecret(chip: GuestChip, { seedValue, sensitive }: SymmetricSecret): Buffer {
  const { point, key, seedValue: unused } = encapsulateFor(chip, 0);
  const plain = Buffer.concat([Buffer.of(seedValue.length), seedValue, sensitive]);
  try {
    return Buffer.concat([Buffer.of(FORM.GIVEN), point, crypt(key, plain)]);
  } finally {
    for (const used of [key, unused, plain]) used.fill(0);
  }
}

/** A symmetric object whose secret the chip opens at each use. What only asymmetric keys can do it refuses with `TPM_RC_KEY`. */
export class HardwareSecret implements PrivatePart {
  readonly engineId: number;
  private readonly chip: GuestChip;
  private readonly log: KeyLog;
  private readonly seedSize: number;
  private readonly serialized: Buffer;

  /** Copies `serialized`. `TPM_RC_INTEGRITY` if it is none. */
  constructor(engineId: number, chip: GuestChip, log: KeyLog, publicArea: SymmetricPublic, serialized: Buffer) {
    const form = serialized[0];
    if (serialized.length < HEAD_SIZE || (form !== FORM.DERIVED && form !== FORM.GIVEN)) throw new TpmError(TPM_RC.INTEGRITY);
    this.engineId = engineId;
    this.chip = chip;
    this.log = log;
    this.seedSize = digestSize(publicArea.nameAlg);
    this.serialized = Buffer.from(serialized);
  }

  async secret(): Promise<SymmetricSecret> {
    const { chip, serialized } = this;
    const point = expand(serialized.subarray(1, HEAD_SIZE));
    const shared = await asGuestErrors(chip, this.log, () => decapsulate(openerOf(chip), chip.secretsKey.publicArea, 'TPMUX', point));
    const { key, seedValue } = derive(shared, this.seedSize);
    const plain = crypt(key, serialized.subarray(HEAD_SIZE));
    key.fill(0);
    if (serialized[0] === FORM.DERIVED) return { seedValue, sensitive: plain };
    const seedEnd = 1 + (plain[0] ?? 0);
    const given = { seedValue: Buffer.from(plain.subarray(1, seedEnd)), sensitive: Buffer.from(plain.subarray(seedEnd)) };
    for (const used of [seedValue, plain]) used.fill(0);
    return given;
  }

  sign(): Promise<TPMT_SIGNATURE> {
    return unsupported();
  }

  rsaDecrypt(): Promise<Buffer> {
    return unsupported();
  }

  ecdhZGen(): Promise<EccPoint> {
    return unsupported();
  }

  serialize(): Buffer {
    return Buffer.from(this.serialized);
  }

  dispose(): void {
    // Nothing here is in clear.
  }
}

function unsupported(): Promise<never> {
  return Promise.reject(new TpmError(TPM_RC.KEY));
}

/** The chip's key for secrets, as what opens them. */
function openerOf(chip: GuestChip): Parameters<typeof decapsulate>[0] {
  return { ecdhZGen: (point) => chip.ecdhZGen(chip.secretsKey, point), rsaDecrypt: unsupported, secret: unsupported };
}

function encapsulateFor(chip: GuestChip, seedSize: number): Derived & { readonly point: Buffer } {
  const { secret, encrypted } = encapsulate(chip.secretsKey.publicArea, 'TPMUX');
  return { ...derive(secret, seedSize), point: compress(encrypted) };
}

/** Zeroizes `shared`. */
function derive(shared: Buffer, seedSize: number): Derived {
  const expanded = (use: string, size: number): Buffer =>
    size === 0 ? Buffer.alloc(0) : Buffer.from(hkdfSync('sha256', shared, Buffer.alloc(0), use, size));
  const derived = { key: expanded('tpmux secret', 32), seedValue: expanded('tpmux seed value', seedSize) };
  shared.fill(0);
  return derived;
}

/** Encrypts, or decrypts: each key has its own point and is used for one text. */
function crypt(key: Buffer, text: Buffer): Buffer {
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(text);
}

/** An encoded `TPMS_ECC_POINT` in the form of SEC 1, 2.3.3, with one coordinate. */
function compress(encoded: Buffer): Buffer {
  const { x, y } = decode(TPMS_ECC_POINT, encoded);
  return Buffer.concat([Buffer.of(2 + ((y.at(-1) ?? 0) & 1)), x]);
}

/** Reverses {@link compress}. `TPM_RC_INTEGRITY` if it is no point. */
function expand(compressed: Buffer): Buffer {
  try {
    const point = ECDH.convertKey(compressed, CURVE, undefined, undefined, 'uncompressed') as Buffer;
    return encode(TPMS_ECC_POINT, { x: point.subarray(1, POINT_SIZE), y: point.subarray(POINT_SIZE) });
  } catch {
    throw new TpmError(TPM_RC.INTEGRITY);
  }
}
