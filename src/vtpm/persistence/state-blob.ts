// A part of a guest's state on its way through hands that are not trusted: a snapshot of a machine, a migration.
//
//   'TPMXSTAT' || version (2) || part (1) || size of guest id (1) || guest id || salt (32) || AES-256-GCM(key, state) || tag (16)
//   key = HKDF-SHA-256(state blob key, salt, 'tpmux state blob'), used once, so the IV is zero
//   AAD = all that is before the salt
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { StateRefused, type StatePart } from '../guest-tpm.js';

const MAGIC = Buffer.from('TPMXSTAT', 'latin1');
const VERSION = 1;
const FIXED_SIZE = MAGIC.length + 4;
const SALT_SIZE = 32;
const TAG_SIZE = 16;
const IV = Buffer.alloc(12);
/** The position of a part here is stored. */
const parts: readonly (StatePart | undefined)[] = [undefined, 'permanent', 'volatile'];

/** Whose state a blob is, and under which key. */
export interface StateOwner {
  /** The guest's identity, at most 255 bytes. */
  readonly guestId: string;
  /** 32 bytes, of this guest alone. */
  readonly key: Buffer;
}

/** Encrypts and authenticates a part of the state for `owner`. */
export function sealState({ guestId, key }: StateOwner, part: StatePart, state: Buffer): Buffer {
  const header = headerOf(guestId, part);
  const salt = randomBytes(SALT_SIZE);
  return withKey(key, salt, (blobKey) => {
    const cipher = createCipheriv('aes-256-gcm', blobKey, IV, { authTagLength: TAG_SIZE }).setAAD(header);
    return Buffer.concat([header, salt, cipher.update(state), cipher.final(), cipher.getAuthTag()]);
  });
}

/** What {@link sealState} was given; the buffer is the caller's own. Throws {@link StateRefused}, which says what is wrong with the blob. */
export function openState({ guestId, key }: StateOwner, part: StatePart, blob: Buffer): Buffer {
  if (blob.length < FIXED_SIZE || !blob.subarray(0, MAGIC.length).equals(MAGIC)) throw new StateRefused('it is not a state blob of tpmux');
  const version = blob.readUInt16BE(MAGIC.length);
  if (version !== VERSION) {
    throw new StateRefused(`it has format version ${version.toString()}; this tpmux reads version ${VERSION.toString()}`);
  }
  const found = parts[blob.readUInt8(MAGIC.length + 2)];
  if (found !== part) throw new StateRefused(`it holds ${found ?? 'unknown'} state, not ${part} state`);
  const headerSize = FIXED_SIZE + blob.readUInt8(FIXED_SIZE - 1);
  if (blob.length < headerSize + SALT_SIZE + TAG_SIZE) throw new StateRefused('it is cut off');
  const header = blob.subarray(0, headerSize);
  if (!header.equals(headerOf(guestId, part))) {
    throw new StateRefused(`it belongs to guest ${JSON.stringify(header.subarray(FIXED_SIZE).toString('latin1'))}`);
  }
  return decrypt(key, header, blob.subarray(headerSize));
}

function decrypt(key: Buffer, header: Buffer, rest: Buffer): Buffer {
  const tagAt = rest.length - TAG_SIZE;
  return withKey(key, rest.subarray(0, SALT_SIZE), (blobKey) => {
    const decipher = createDecipheriv('aes-256-gcm', blobKey, IV, { authTagLength: TAG_SIZE });
    decipher.setAAD(header).setAuthTag(rest.subarray(tagAt));
    const state = decipher.update(rest.subarray(SALT_SIZE, tagAt));
    try {
      decipher.final();
      return state;
    } catch {
      state.fill(0);
      throw new StateRefused('it is not authentic: it was changed, or made under another state key');
    }
  });
}

function headerOf(guestId: string, part: StatePart): Buffer {
  const id = Buffer.from(guestId, 'latin1');
  const header = Buffer.alloc(FIXED_SIZE);
  MAGIC.copy(header);
  header.writeUInt16BE(VERSION, MAGIC.length);
  header.writeUInt8(parts.indexOf(part), MAGIC.length + 2);
  header.writeUInt8(id.length, FIXED_SIZE - 1);
  return Buffer.concat([header, id]);
}

function withKey<T>(key: Buffer, salt: Buffer, use: (blobKey: Buffer) => T): T {
  const blobKey = Buffer.from(hkdfSync('sha256', key, salt, 'tpmux state blob', 32));
  try {
    return use(blobKey);
  } finally {
    blobKey.fill(0);
  }
}
