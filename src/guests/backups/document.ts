// Backups of one guest: a JSON document that means nothing without the chip, or without the recovery key that was asked for at creation.
//
// Everything of the guest but its name, id and times is encrypted with AES-256-GCM under
//   HKDF-SHA-256(state key, salt, 'tpmux backup'), used once, so the IV is zero.
// The state key is in it twice at most: in `keyBlobs`, sealed by the chip, and in `recovery`, wrapped for the holder of the recovery key.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import * as v from 'valibot';
import { describeIssue } from '../../config/describe-issue.js';
import { publicKeyOf, RecoveryKeyError, unwrapSecret } from '../../crypto/recovery-key.js';
import { EXIT, Failure } from '../../failure.js';
import { decodeMeta, encodeMeta } from '../../store/guest-meta.js';
import type { StoredGuest } from '../../store/host-store.js';

const FORMAT = 'tpmux guest backup';
/** Version of the format; a newer one is refused. */
const BACKUP_VERSION = 1;
const SALT_SIZE = 32;
const TAG_SIZE = 16;
const IV = Buffer.alloc(12);

const base64 = v.pipe(
  v.string(),
  v.base64(),
  v.transform((text) => Buffer.from(text, 'base64')),
);
const schema = v.strictObject({
  format: v.literal(FORMAT),
  version: v.literal(BACKUP_VERSION),
  id: v.pipe(v.string(), v.uuid()),
  name: v.pipe(v.string(), v.regex(/^[a-zA-Z0-9._-]{1,63}$/)),
  exported: v.pipe(v.string(), v.isoTimestamp()),
  keyBlobs: base64,
  recovery: v.nullable(base64),
  data: base64,
});
/** A backup that was read, but not opened. */
export type Backup = v.InferOutput<typeof schema>;

const contents = v.strictObject({ meta: base64, records: v.array(v.tuple([v.string(), base64])) });

/** What the state key of a guest is wrapped for: the `context` of {@link wrapSecret}. */
export const recoveryContext = (guestId: string): string => `state key of guest ${guestId}`;

/** A backup as text, under the guest's state key. */
export function encodeBackup({ meta, keyBlobs, recovery, sealed }: StoredGuest, stateKey: Buffer, exported: Date): string {
  const fields = { id: meta.id, name: meta.name, exported: exported.toISOString(), keyBlobs, recovery };
  const records = sealed.map(([key, value]) => [key, value.toString('base64')]);
  const plain = Buffer.from(JSON.stringify({ meta: encodeMeta(meta).toString('base64'), records }), 'utf8');
  const salt = randomBytes(SALT_SIZE);
  const data = withKey(stateKey, salt, (key) => {
    const cipher = createCipheriv('aes-256-gcm', key, IV, { authTagLength: TAG_SIZE }).setAAD(associated(fields));
    return Buffer.concat([salt, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  });
  const texts = { keyBlobs: keyBlobs.toString('base64'), recovery: recovery?.toString('base64') ?? null, data: data.toString('base64') };
  return `${JSON.stringify({ format: FORMAT, version: BACKUP_VERSION, ...fields, ...texts }, null, 1)}\n`;
}

/** Reads a backup. Throws a {@link Failure} if it is none, or of a newer version. */
export function readBackup(text: string): Backup {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw bad('it is not a backup of tpmux');
  }
  const version = typeof json === 'object' && json !== null && 'version' in json ? json.version : undefined;
  if (typeof version === 'number' && version > BACKUP_VERSION) {
    throw bad(
      `it has format ${version.toString()}, this tpmux knows up to ${BACKUP_VERSION.toString()}`,
      'use the newer tpmux that wrote it',
    );
  }
  const result = v.safeParse(schema, json);
  if (!result.success) throw bad(describeIssue(result.issues));
  return result.output;
}

/** What {@link encodeBackup} was given. Throws a {@link Failure} if the backup was changed or is of another state key. */
export function openBackup(backup: Backup, stateKey: Buffer): StoredGuest {
  const { data, keyBlobs } = backup;
  if (data.length < SALT_SIZE + TAG_SIZE) throw bad('it is cut short');
  const tagAt = data.length - TAG_SIZE;
  const plain = withKey(stateKey, data.subarray(0, SALT_SIZE), (key) => {
    const decipher = createDecipheriv('aes-256-gcm', key, IV, { authTagLength: TAG_SIZE }).setAAD(associated(backup));
    decipher.setAuthTag(data.subarray(tagAt));
    const clear = decipher.update(data.subarray(SALT_SIZE, tagAt));
    try {
      decipher.final();
    } catch {
      throw bad('it is not authentic: it was changed, or made under another state key');
    }
    return clear;
  });
  const { meta, records } = v.parse(contents, JSON.parse(plain.toString('utf8')));
  return { meta: decodeMeta(backup.id, meta), keyBlobs, recovery: backup.recovery, sealed: records };
}

/**
 * The state key of the guest in a backup, for the holder of its recovery key (PEM), and the public part of that key. The state key is 32
 * bytes to be zeroized. Rejects with a {@link Failure}.
 */
export async function recoverStateKey(
  { id, name, recovery }: Backup,
  privatePem: string,
): Promise<{ stateKey: Buffer; recoveryKey: Buffer }> {
  const refused = (why: string): Failure =>
    new Failure({
      code: 'bad_recovery_key',
      what: `opening the backup of guest ${name} with a recovery key`,
      why,
      hint: '',
      exit: EXIT.refused,
    });
  if (recovery === null) throw refused('none was asked for when the guest was created: it can be opened with its TPM only');
  try {
    return { stateKey: await unwrapSecret(privatePem, recovery, recoveryContext(id)), recoveryKey: publicKeyOf(privatePem) };
  } catch (error) {
    throw error instanceof RecoveryKeyError ? refused(error.message) : error;
  }
}

/** What of a backup is in clear. */
interface ClearPart {
  readonly id: string;
  readonly name: string;
  readonly exported: string;
  readonly keyBlobs: Buffer;
  readonly recovery: Buffer | null;
}

function associated({ id, name, exported, keyBlobs, recovery }: ClearPart): Buffer {
  const blobs = [keyBlobs.toString('base64'), recovery?.toString('base64') ?? null];
  return Buffer.from(JSON.stringify([FORMAT, BACKUP_VERSION, id, name, exported, ...blobs]), 'utf8');
}

function bad(why: string, hint = 'use another backup'): Failure {
  return new Failure({ code: 'bad_backup', what: 'reading the backup', why, hint, exit: EXIT.usage });
}

function withKey<T>(stateKey: Buffer, salt: Buffer, use: (key: Buffer) => T): T {
  const key = Buffer.from(hkdfSync('sha256', stateKey, salt, 'tpmux backup', 32));
  try {
    return use(key);
  } finally {
    key.fill(0);
  }
}
