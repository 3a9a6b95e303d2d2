// What the host knows of a guest without its state key.
import * as v from 'valibot';
import { describeIssue } from '../config/describe-issue.js';
import { guestListen } from '../config/listen.js';
import { StoreError } from './store-error.js';

/** What a guest can be called. It becomes a directory's name: `.` and `..` cannot. */
export const GUEST_NAME = /^(?!\.{1,2}$)[a-zA-Z0-9._-]{1,63}$/;

const guestMeta = v.strictObject({
  /** Identity of the guest for its whole life, also across renames and hosts; a UUID. */
  id: v.pipe(v.string(), v.uuid()),
  name: v.pipe(v.string(), v.regex(GUEST_NAME)),
  /** ISO 8601, UTC. */
  created: v.pipe(v.string(), v.isoTimestamp()),
  /** Text of the policy file, or null if the guest has none. */
  policy: v.nullable(v.string()),
  /** Policy that the guest had last, with its class: JSON. Absent in guests that were never started with one. */
  policyInForce: v.optional(v.string()),
  listen: guestListen,
  /** It has a TPM device on the host while it runs. */
  device: v.optional(v.boolean()),
  /** The guest is to run whenever the daemon runs. */
  autostart: v.boolean(),
});

/** What the host knows of a guest without its state key. */
export type GuestMeta = v.InferOutput<typeof guestMeta>;

export function encodeMeta(meta: GuestMeta): Buffer {
  return Buffer.from(JSON.stringify(meta), 'utf8');
}

/** Throws {@link StoreError} if this is not a meta record of the guest `id`. */
export function decodeMeta(id: string, bytes: Buffer): GuestMeta {
  const damaged = (why: string): StoreError =>
    new StoreError(`reading guest ${id}`, `its record 'meta' ${why}`, 'restore the store from a backup', { guest: id, record: 'meta' });
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw damaged('is not JSON');
  }
  const result = v.safeParse(guestMeta, json);
  if (!result.success) throw damaged(`has a bad field ${describeIssue(result.issues)}`);
  if (result.output.id !== id) throw damaged(`belongs to guest ${result.output.id}`);
  return result.output;
}
