// swtpm control channel (swtpm/tpm_ioctl.h): one entry per request. What is not listed is answered BAD_ORDINAL and not announced.
import { BUFFER_SIZE, type GuestLink } from './guest-link.js';
import type { BodySize } from './control-stream.js';

/** Results: TPM 1.2 style codes. */
export const CONTROL_RESULT = { success: 0, badParameter: 3, fail: 9, badOrdinal: 0x0a, badLocality: 0x3d } as const;

/** One request of the control channel. */
export interface ControlCommand extends BodySize {
  readonly number: number;
  readonly name: string;
  /** Its bit in the answer to GET_CAPABILITY. */
  readonly capability?: number;
  /** The complete response. */
  readonly run: (link: GuestLink, body: Buffer) => Buffer | Promise<Buffer>;
}

/** A response that is a result and, where that is success, `more`. */
export function controlResult(code: number, ...more: readonly Buffer[]): Buffer {
  return Buffer.concat([uint32(code), ...more]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

const { success, badOrdinal, badLocality } = CONTROL_RESULT;
const MAX_LOCALITY = 4;

async function powerOff(link: GuestLink): Promise<Buffer> {
  if (link.tpm.powered) await link.tpm.powerOff();
  return controlResult(success);
}

async function powerCycle(link: GuestLink): Promise<Buffer> {
  if (link.tpm.powered) await link.tpm.powerOff();
  await link.tpm.powerOn();
  return controlResult(success);
}

function setLocality(link: GuestLink, body: Buffer): Buffer {
  const locality = body.readUInt8(0);
  if (locality > MAX_LOCALITY) return controlResult(badLocality);
  link.locality = locality;
  return controlResult(success);
}

function setBufferSize(link: GuestLink, body: Buffer): Buffer {
  const wanted = body.readUInt32BE(0);
  if (wanted !== 0) {
    if (link.tpm.powered) return controlResult(badOrdinal);
    link.bufferSize = Math.min(Math.max(wanted, BUFFER_SIZE.min), BUFFER_SIZE.max);
  }
  return controlResult(success, uint32(link.bufferSize), uint32(BUFFER_SIZE.min), uint32(BUFFER_SIZE.max));
}

const INFO_SPECIFICATION = 1n;
const INFO_ATTRIBUTES = 2n;

function describe(link: GuestLink, flags: bigint): string {
  const { revision, manufacturer, firmwareVersion, model } = link.description;
  const id = `id:${Buffer.from(manufacturer.padEnd(4, '\0').slice(0, 4), 'latin1').toString('hex').toUpperCase()}`;
  const version = `id:${firmwareVersion.toString(16).toUpperCase().padStart(8, '0')}`;
  return JSON.stringify({
    ...((flags & INFO_SPECIFICATION) === 0n ? {} : { TPMSpecification: { family: '2.0', level: 0, revision } }),
    ...((flags & INFO_ATTRIBUTES) === 0n ? {} : { TPMAttributes: { manufacturer: id, version, model } }),
  });
}

function getInfo(link: GuestLink, body: Buffer): Buffer {
  const text = Buffer.from(`${describe(link, body.readBigUInt64BE(0))}\0`, 'utf8');
  const part = text.subarray(body.readUInt32BE(8));
  return controlResult(success, uint32(text.length), uint32(part.length), part);
}

function getCapability(): Buffer {
  const response = Buffer.alloc(8);
  response.writeBigUInt64BE(CAPABILITIES);
  return response;
}

/** The requests that are served. */
export const CONTROL_COMMANDS: readonly ControlCommand[] = [
  { number: 0x01, name: 'GET_CAPABILITY', body: 0, run: getCapability },
  { number: 0x02, name: 'INIT', capability: 0, body: 4, run: powerCycle },
  // It ends one machine's use of the TPM. swtpm itself ends; a guest of ours waits for the next INIT.
  { number: 0x03, name: 'SHUTDOWN', capability: 1, body: 0, run: powerOff },
  {
    number: 0x04,
    name: 'GET_TPMESTABLISHED',
    capability: 2,
    body: 0,
    run: (link) => controlResult(success, Buffer.from([link.tpm.established ? 1 : 0, 0, 0, 0])),
  },
  { number: 0x05, name: 'SET_LOCALITY', capability: 3, body: 1, padding: 3, run: setLocality },
  {
    number: 0x09,
    name: 'CANCEL_TPM_CMD',
    capability: 5,
    body: 0,
    run: (link) => {
      link.tpm.cancel();
      return controlResult(success);
    },
  },
  {
    number: 0x0b,
    name: 'RESET_TPMESTABLISHED',
    capability: 7,
    body: 1,
    padding: 3,
    run: (link, body) => controlResult(link.tpm.resetEstablished(body.readUInt8(0)) ? success : badLocality),
  },
  { number: 0x0e, name: 'STOP', capability: 10, body: 0, run: powerOff },
  // Flags: neither a file key nor a migration key of the kind that swtpm takes is in use.
  { number: 0x0f, name: 'GET_CONFIG', capability: 11, body: 0, run: () => controlResult(success, uint32(0)) },
  { number: 0x11, name: 'SET_BUFFERSIZE', capability: 13, body: 4, run: setBufferSize },
  { number: 0x12, name: 'GET_INFO', capability: 14, body: 16, run: getInfo },
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
