// The plainest TPM client there is: frames built by hand, password authorization. What the tests compare our own code with must not be
// built with it.
import net from 'node:net';
import { TPM_RS } from '../../src/tpm/constants/index.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import type { Endpoint } from './swtpm.js';

/** A command: `sessions` is the authorization area, or a number of password sessions with empty passwords. */
export interface RawCommand {
  readonly code: number;
  readonly handles?: readonly number[];
  readonly sessions?: number | Buffer;
  readonly parameters?: Buffer;
  /** Whether a successful response has a handle. */
  readonly returnsHandle?: boolean;
}

/** A response. Without success only `code` means something. */
export interface RawResponse {
  readonly code: number;
  readonly handle: number;
  readonly parameters: Buffer;
  /** The authorization area. */
  readonly sessions: Buffer;
}

const passwordSession = Buffer.from(`${TPM_RS.PW.toString(16)}0000010000`, 'hex');

/** `value` as big-endian bytes. */
export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

/** `value` as big-endian bytes. */
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

/** The bytes with their size in front. */
export function sizedBytes(...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([u16(content.length), content]);
}

/** One connection to a TPM. */
export class RawTpm {
  private readonly socket: net.Socket;
  private received = Buffer.alloc(0);
  private waiter: ((frame: Buffer) => void) | undefined;

  constructor(endpoint: Endpoint) {
    this.socket = net.connect(endpoint);
    this.socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
      if (this.received.length < 10 || this.received.length < this.received.readUInt32BE(2)) return;
      const frame = this.received;
      this.received = Buffer.alloc(0);
      this.waiter?.(frame);
    });
  }

  /** Closes the connection. */
  close(): void {
    this.socket.destroy();
  }

  /** Sends a command and returns the whole response, whatever its code but `TPM_RC_RETRY`, which libtpms gives during its self-tests. */
  async send(command: RawCommand): Promise<RawResponse> {
    for (;;) {
      const response = await this.exchange(command);
      if (response.code !== TPM_RC.RETRY) return response;
    }
  }

  /** As {@link send}, but throws if the command does not succeed. */
  async run(command: RawCommand): Promise<RawResponse> {
    const response = await this.send(command);
    if (response.code !== 0) throw new Error(`command 0x${command.code.toString(16)}: response 0x${response.code.toString(16)}`);
    return response;
  }

  private async exchange({
    code,
    handles = [],
    sessions = 0,
    parameters = Buffer.alloc(0),
    returnsHandle = false,
  }: RawCommand): Promise<RawResponse> {
    const area = typeof sessions === 'number' ? Buffer.concat(Array.from({ length: sessions }, () => passwordSession)) : sessions;
    const authorized = area.length > 0;
    const body = [u32(code), ...handles.map(u32), ...(authorized ? [u32(area.length), area] : []), parameters];
    const size = 6 + body.reduce((sum, part) => sum + part.length, 0);
    const answer = new Promise<Buffer>((resolve) => (this.waiter = resolve));
    this.socket.write(Buffer.concat([u16(authorized ? 0x8002 : 0x8001), u32(size), ...body]));
    return split(await answer, authorized, returnsHandle);
  }
}

function split(frame: Buffer, authorized: boolean, returnsHandle: boolean): RawResponse {
  const code = frame.readUInt32BE(6);
  const none = Buffer.alloc(0);
  if (code !== 0) return { code, handle: 0, parameters: none, sessions: none };
  const handle = returnsHandle ? frame.readUInt32BE(10) : 0;
  const start = returnsHandle ? 14 : 10;
  if (!authorized) return { code, handle, parameters: frame.subarray(start), sessions: none };
  const size = frame.readUInt32BE(start);
  const end = start + 4 + size;
  return { code, handle, parameters: frame.subarray(start + 4, end), sessions: frame.subarray(end) };
}
