// How one record of a guest is encrypted: AES-256-GCM under keys derived from the guest's state key.
import { createCipheriv, createDecipheriv, createHmac, createSecretKey, hkdfSync, randomBytes, type KeyObject } from 'node:crypto';

/** Version of the sealed form; first byte of every sealed record and part of what is authenticated. */
export const RECORD_VERSION = 1;

const NONCE_SIZE = 12;
const TAG_SIZE = 16;
const SEQUENCE_OFFSET = 1;
const NONCE_OFFSET = SEQUENCE_OFFSET + 8;
const BODY_OFFSET = NONCE_OFFSET + NONCE_SIZE;
/** Bytes that sealing adds. */
const SEALED_OVERHEAD = BODY_OFFSET + TAG_SIZE;

/** Size of {@link RecordCipher.fingerprint}, in bytes. */
export const FINGERPRINT_SIZE = 32;

/** The version that a sealed record claims to have; undefined if it is empty. */
export function formatOf(sealed: Buffer): number | undefined {
  return sealed[0];
}

/** The sequence number that a sealed record claims to have, or undefined if it is too short or of another version. */
export function claimedSequence(sealed: Buffer | undefined): bigint | undefined {
  if (sealed === undefined || sealed.length < SEALED_OVERHEAD || sealed[0] !== RECORD_VERSION) return undefined;
  return sealed.readBigUInt64BE(SEQUENCE_OFFSET);
}

/**
 * Seals and opens the records of one guest. A sealed record is
 * `version (1) || sequence (8, big-endian) || nonce (12, random) || ciphertext || tag (16)`; version, guest, record key and
 * sequence number are authenticated with it, so a record is good only in its own place and as of its own commit.
 */
export class RecordCipher {
  private readonly guest: Buffer;
  private readonly sealKey: KeyObject;
  private readonly setKey: KeyObject;

  /** @param stateKey 32 secret bytes; no view of them is kept */
  constructor(guestId: string, stateKey: Buffer) {
    if (stateKey.length !== 32) throw new RangeError(`stateKey has ${stateKey.length.toString()} bytes, not 32`);
    this.guest = Buffer.from(guestId, 'utf8');
    this.sealKey = derive(stateKey, 'tpmux store v1 seal');
    this.setKey = derive(stateKey, 'tpmux store v1 set');
  }

  seal(record: string, sequence: bigint, value: Buffer): Buffer {
    const sealed = Buffer.alloc(SEALED_OVERHEAD + value.length);
    sealed[0] = RECORD_VERSION;
    sealed.writeBigUInt64BE(sequence, SEQUENCE_OFFSET);
    const nonce = randomBytes(NONCE_SIZE);
    nonce.copy(sealed, NONCE_OFFSET);
    const cipher = createCipheriv('aes-256-gcm', this.sealKey, nonce);
    cipher.setAAD(this.associated(record, sequence));
    cipher.update(value).copy(sealed, BODY_OFFSET);
    cipher.final();
    cipher.getAuthTag().copy(sealed, sealed.length - TAG_SIZE);
    return sealed;
  }

  /** The value, or undefined if the record is not authentic in this place. */
  open(record: string, sealed: Buffer): Buffer | undefined {
    const sequence = claimedSequence(sealed);
    if (sequence === undefined) return undefined;
    const nonce = sealed.subarray(NONCE_OFFSET, BODY_OFFSET);
    const decipher = createDecipheriv('aes-256-gcm', this.sealKey, nonce, { authTagLength: TAG_SIZE });
    decipher.setAAD(this.associated(record, sequence));
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_SIZE));
    const value = decipher.update(sealed.subarray(BODY_OFFSET, sealed.length - TAG_SIZE));
    try {
      decipher.final();
      return value;
    } catch {
      value.fill(0);
      return undefined;
    }
  }

  /** A keyed digest of "this record as of this commit"; the XOR of all of them stands for the whole set of records. */
  fingerprint(record: string, sequence: bigint): Buffer {
    return createHmac('sha256', this.setKey).update(this.associated(record, sequence)).digest();
  }

  private associated(record: string, sequence: bigint): Buffer {
    const key = Buffer.from(record, 'utf8');
    const head = Buffer.alloc(13);
    head[0] = RECORD_VERSION;
    head.writeBigUInt64BE(sequence, 1);
    head.writeUInt16BE(this.guest.length, 9);
    head.writeUInt16BE(key.length, 11);
    return Buffer.concat([head, this.guest, key]);
  }
}

function derive(stateKey: Buffer, purpose: string): KeyObject {
  const bytes = Buffer.from(hkdfSync('sha256', stateKey, Buffer.alloc(0), purpose, 32));
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}
