// swtpm control channel (swtpm/tpm_ioctl.h): one entry per request. What is not listed is answered BAD_ORDINAL and not announced.
import { uint32Bytes } from '../../tpm/wire.js';
import { StateRefused, type StatePart } from '../../vtpm/guest-tpm.js';
import type { ControlSession } from './session.js';
import type { BodySize } from './stream.js';
import { BUFFER_SIZE, type GuestLink, type TpmDescription } from '../guest-link.js';

/** Results: TPM 1.2 style codes. `retry` says that there is no such state. */
export const CONTROL_RESULT = {
  success: 0,
  badParameter: 3,
  fail: 9,
  badOrdinal: 0x0a,
  ioError: 0x1f,
  badLocality: 0x3d,
  retry: 0x800,
} as const;

/** One request of the control channel. */
export interface ControlCommand extends BodySize {
  readonly number: number;
  readonly name: string;
  /** Its bit in the answer to GET_CAPABILITY. */
  readonly capability?: number;
  /** Whether to execute it a second time, after a daemon died over it, is the same as to execute it once. */
  readonly repeatable?: (body: Buffer) => boolean;
  /** Whether it is answered without the TPM, from what is remembered of the guest. */
  readonly withoutTpm?: (body: Buffer) => boolean;
  /** The complete response. */
  readonly run: (session: ControlSession, body: Buffer) => Buffer | Promise<Buffer>;
}

/** A response that is a result and, where that is success, `more`. */
export function controlResult(code: number, ...more: readonly Buffer[]): Buffer {
  return Buffer.concat([uint32Bytes(code), ...more]);
}

const { success, badParameter, fail, badOrdinal, ioError, badLocality, retry } = CONTROL_RESULT;
const MAX_LOCALITY = 4;
/** Most bytes of one HASH_DATA; clients of swtpm send 4096 at a time. */
const MAX_HASH_DATA = 0x10000;
/** Most bytes of a state blob. */
export const MAX_STATE_BLOB = 0x1000000;
/** GET_STATEBLOB, state flags: the blob is encrypted. */
const STATE_ENCRYPTED = 2;

async function stop({ link }: ControlSession): Promise<Buffer> {
  if (link.tpm.powered) await link.tpm.powerOff(true);
  return controlResult(success);
}

const DELETE_VOLATILE = 1;

function deletesVolatile(body: Buffer): boolean {
  return (body.readUInt32BE(0) & DELETE_VOLATILE) !== 0;
}

async function init({ link }: ControlSession, body: Buffer): Promise<Buffer> {
  await link.tpm.init(deletesVolatile(body));
  link.incoming = false;
  return controlResult(success);
}

async function shutdown(session: ControlSession): Promise<Buffer> {
  await session.shutdown();
  return controlResult(success);
}

/** A request that needs a TPM with power. */
function powered(action: (link: GuestLink, body: Buffer) => Promise<void>): ControlCommand['run'] {
  return async ({ link }, body) => {
    if (!link.tpm.powered) return controlResult(badOrdinal);
    await action(link, body);
    return controlResult(success);
  };
}

const LENGTH_SIZE = 4;

const stateParts: readonly (StatePart | undefined)[] = [undefined, 'permanent', 'volatile', 'savestate'];

function stateResult(code: number, total: number, piece: Buffer): Buffer {
  return Buffer.concat([
    uint32Bytes(code),
    uint32Bytes(code === success ? STATE_ENCRYPTED : 0),
    uint32Bytes(total),
    uint32Bytes(piece.length),
    piece,
  ]);
}

const TYPE_OFFSET = 4;

/** Request: flags, type, offset. Blobs are always encrypted, whatever the flags ask for. */
async function getStateBlob(session: ControlSession, body: Buffer): Promise<Buffer> {
  if (!session.link.tpm.powered) return controlResult(badOrdinal);
  const part = stateParts[body.readUInt32BE(TYPE_OFFSET)];
  const nothing = Buffer.alloc(0);
  if (part === undefined) return stateResult(fail, 0, nothing);
  if (part === 'savestate') return stateResult(retry, 0, nothing);
  const { total, piece } = await session.readState(part, body.readUInt32BE(8));
  return stateResult(success, total, piece);
}

/** Request: flags, type, length, blob. The flags say what the blob says itself. */
async function setStateBlob({ link }: ControlSession, body: Buffer): Promise<Buffer> {
  if (link.tpm.powered) return controlResult(badOrdinal);
  const part = stateParts[body.readUInt32BE(TYPE_OFFSET)];
  if (part === undefined) return controlResult(badParameter);
  try {
    await link.tpm.setState(part, body.subarray(12));
    link.incoming = true;
    return controlResult(success);
  } catch (error) {
    if (!(error instanceof StateRefused)) throw error;
    link.onRefusedState(part, error.message);
    return controlResult(badParameter);
  }
}

const ATTACHMENT_RESULT = { attached: success, 'no descriptor': badParameter, 'attached before': ioError } as const;

function setLocality({ link }: ControlSession, body: Buffer): Buffer {
  const locality = body.readUInt8(0);
  if (locality > MAX_LOCALITY) return controlResult(badLocality);
  link.locality = locality;
  return controlResult(success);
}

function asksBufferSize(body: Buffer): boolean {
  return body.readUInt32BE(0) === 0;
}

function setBufferSize({ link }: ControlSession, body: Buffer): Buffer {
  if (!asksBufferSize(body)) {
    const wanted = body.readUInt32BE(0);
    if (link.tpm.powered) return controlResult(badOrdinal);
    link.tpm.bufferSize = Math.min(Math.max(wanted, BUFFER_SIZE.min), BUFFER_SIZE.max);
  }
  return controlResult(success, uint32Bytes(link.tpm.bufferSize), uint32Bytes(BUFFER_SIZE.min), uint32Bytes(BUFFER_SIZE.max));
}

const INFO_SPECIFICATION = 1n;
const INFO_ATTRIBUTES = 2n;

function describe({ revision, manufacturer, firmwareVersion, model }: TpmDescription, flags: bigint): string {
  const id = `id:${Buffer.from(manufacturer.padEnd(4, '\0').slice(0, 4), 'latin1').toString('hex').toUpperCase()}`;
  const version = `id:${firmwareVersion.toString(16).toUpperCase().padStart(8, '0')}`;
  return JSON.stringify({
    ...((flags & INFO_SPECIFICATION) === 0n ? {} : { TPMSpecification: { family: '2.0', level: 0, revision } }),
    ...((flags & INFO_ATTRIBUTES) === 0n ? {} : { TPMAttributes: { manufacturer: id, version, model } }),
  });
}

function getInfo({ link: { description } }: ControlSession, body: Buffer): Buffer {
  if (description === undefined) return controlResult(fail);
  const text = Buffer.from(`${describe(description, body.readBigUInt64BE(0))}\0`, 'utf8');
  const part = text.subarray(body.readUInt32BE(8));
  return controlResult(success, uint32Bytes(text.length), uint32Bytes(part.length), part);
}

const always = (): boolean => true;

/** Number of the request that cancels a TPM command. */
export const CANCEL_TPM_CMD = 0x09;

function getCapability(): Buffer {
  const response = Buffer.alloc(8);
  response.writeBigUInt64BE(CAPABILITIES);
  return response;
}

/** The requests that are served. */
export const CONTROL_COMMANDS: readonly ControlCommand[] = [
  { number: 0x01, name: 'GET_CAPABILITY', body: 0, repeatable: always, withoutTpm: always, run: getCapability },
  { number: 0x02, name: 'INIT', capability: 0, body: 4, repeatable: (body) => !deletesVolatile(body), run: init },
  // It ends one machine's use of the TPM. swtpm itself ends; ours is there for the next one.
  { number: 0x03, name: 'SHUTDOWN', capability: 1, body: 0, repeatable: always, withoutTpm: always, run: shutdown },
  {
    number: 0x04,
    name: 'GET_TPMESTABLISHED',
    capability: 2,
    body: 0,
    repeatable: always,
    withoutTpm: always,
    run: ({ link: { tpm } }) =>
      tpm.powered ? controlResult(success, Buffer.from([tpm.established ? 1 : 0, 0, 0, 0])) : controlResult(badOrdinal),
  },
  { number: 0x05, name: 'SET_LOCALITY', capability: 3, body: 1, padding: 3, repeatable: always, withoutTpm: always, run: setLocality },
  { number: 0x06, name: 'HASH_START', capability: 4, body: 0, run: powered(({ tpm }) => tpm.hashStart()) },
  {
    number: 0x07,
    name: 'HASH_DATA',
    body: LENGTH_SIZE,
    maxPayload: MAX_HASH_DATA,
    run: powered(({ tpm }, body) => tpm.hashData(body.subarray(LENGTH_SIZE))),
  },
  { number: 0x08, name: 'HASH_END', body: 0, run: powered(({ tpm }) => tpm.hashEnd()) },
  {
    number: CANCEL_TPM_CMD,
    name: 'CANCEL_TPM_CMD',
    capability: 5,
    body: 0,
    repeatable: always,
    withoutTpm: always,
    run: async (session) => {
      await session.cancel();
      return controlResult(success);
    },
  },
  { number: 0x0a, name: 'STORE_VOLATILE', capability: 6, body: 0, repeatable: always, run: powered(({ tpm }) => tpm.storeVolatile()) },
  {
    number: 0x0b,
    name: 'RESET_TPMESTABLISHED',
    capability: 7,
    body: 1,
    padding: 3,
    repeatable: always,
    run: async ({ link }, body) => controlResult((await link.tpm.resetEstablished(body.readUInt8(0))) ? success : badLocality),
  },
  { number: 0x0c, name: 'GET_STATEBLOB', capability: 8, body: 12, repeatable: always, run: getStateBlob },
  { number: 0x0d, name: 'SET_STATEBLOB', capability: 9, body: 12, maxPayload: MAX_STATE_BLOB, run: setStateBlob },
  { number: 0x0e, name: 'STOP', capability: 10, body: 0, repeatable: always, run: stop },
  // Flags: neither a file key nor a migration key of the kind that swtpm takes is in use.
  {
    number: 0x0f,
    name: 'GET_CONFIG',
    capability: 11,
    body: 0,
    repeatable: always,
    withoutTpm: always,
    run: () => controlResult(success, uint32Bytes(0)),
  },
  {
    number: 0x10,
    name: 'SET_DATAFD',
    capability: 12,
    body: 0,
    run: (session) => controlResult(ATTACHMENT_RESULT[session.attach()]),
  },
  { number: 0x11, name: 'SET_BUFFERSIZE', capability: 13, body: 4, repeatable: always, withoutTpm: asksBufferSize, run: setBufferSize },
  { number: 0x12, name: 'GET_INFO', capability: 14, body: 16, repeatable: always, run: getInfo },
  // The state is the daemon's alone at all times: there is nothing to lock. Body: how often to try.
  {
    number: 0x13,
    name: 'LOCK_STORAGE',
    capability: 16,
    body: 4,
    repeatable: always,
    withoutTpm: always,
    run: () => controlResult(success),
  },
];

const byNumber = new Map(CONTROL_COMMANDS.map((command) => [command.number, command]));
const CAPABILITIES = CONTROL_COMMANDS.reduce(
  (bits, { capability }) => (capability === undefined ? bits : bits | (1n << BigInt(capability))),
  0n,
);

/** The table's entry of a request, if it is served. */
export function controlCommand(number: number): ControlCommand | undefined {
  return byNumber.get(number);
}
