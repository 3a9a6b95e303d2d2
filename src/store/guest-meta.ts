// What the host knows of a guest without its state key.
import * as v from 'valibot';
import { describeIssue } from '../config/describe-issue.js';
import { StoreError } from './store-error.js';

/** Most lines of one kind that a guest can have. */
const MAX_LINES = 8;
const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65534));
const path = (maxBytes: number) => v.pipe(v.string(), v.regex(/^\/[^\0\n]+$/), v.maxBytes(maxBytes));
const paths = (maxBytes: number) => v.pipe(v.array(path(maxBytes)), v.maxLength(MAX_LINES));

/** What a guest is served on besides its own UNIX sockets. */
const guestListen = v.strictObject({
  /** Data port on 127.0.0.1; the control channel is on the next one. */
  tcp: v.optional(port),
  /** Command port of the simulator's protocol on 127.0.0.1; the platform port is the next one. */
  mssim: v.optional(port),
  /** Absolute paths of ttys. */
  serial: v.optional(paths(4095)),
  /** Absolute paths of UNIX sockets on which a console listens; sun_path has 107 bytes. */
  consoleSockets: v.optional(paths(107)),
});

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

/** See {@link guestListen}. */
export type GuestListen = v.InferOutput<typeof guestListen>;

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
