// TPM 2.0 Library Part 1, 18: command and response frames, from the caller's side.
import { TPM_ST } from '../../tpm/constants/index.js';
import { Reader, Writer } from '../../tpm/wire.js';
import { ChipResponseForged } from './errors.js';

const HEADER_SIZE = 10;

/** `TPMS_AUTH_COMMAND` (Part 2, 10.13.2). */
export interface AuthCommand {
  readonly sessionHandle: number;
  readonly nonceCaller: Buffer;
  readonly sessionAttributes: number;
  readonly hmac: Buffer;
}

/** `TPMS_AUTH_RESPONSE` (Part 2, 10.13.3). */
export interface AuthResponse {
  readonly nonceTPM: Buffer;
  readonly sessionAttributes: number;
  readonly hmac: Buffer;
}

/** A response, taken apart; parameters are views into the frame. */
export interface ResponseFrame {
  readonly code: number;
  readonly handle: number | undefined;
  readonly parameters: Buffer;
  /** One for each session of the command; empty if the response is an error. */
  readonly authorizations: readonly AuthResponse[];
}

/** The bytes of a command. Its tag says whether there are authorizations. */
export function encodeCommand(
  code: number,
  handles: readonly number[],
  authorizations: readonly AuthCommand[],
  parameters: Buffer,
): Buffer {
  const writer = new Writer(HEADER_SIZE + 512 + parameters.length);
  writer.uint16(authorizations.length > 0 ? TPM_ST.SESSIONS : TPM_ST.NO_SESSIONS);
  writer.uint32(0);
  writer.uint32(code);
  for (const handle of handles) writer.uint32(handle);
  if (authorizations.length > 0) {
    const start = writer.size;
    writer.uint32(0);
    for (const auth of authorizations) writeAuth(writer, auth);
    writer.patch32(start, writer.size - start - 4);
  }
  writer.raw(parameters);
  writer.patch32(2, writer.size);
  return writer.finish();
}

function writeAuth(writer: Writer, auth: AuthCommand): void {
  writer.uint32(auth.sessionHandle);
  writer.sized(() => {
    writer.raw(auth.nonceCaller);
  });
  writer.uint8(auth.sessionAttributes);
  writer.sized(() => {
    writer.raw(auth.hmac);
  });
}

/** The response code of a frame. Throws {@link ChipResponseForged} if it is no response frame. */
export function responseCode(command: string, frame: Buffer): number {
  if (frame.length < HEADER_SIZE || frame.readUInt32BE(2) !== frame.length) throw new ChipResponseForged(command, 'its size is wrong');
  return frame.readUInt32BE(6);
}

/**
 * Takes a successful response apart.
 * @param sessions how many sessions the command had, and so the response must have
 * @throws {ChipResponseForged} if the frame does not have that form
 */
export function decodeResponse(command: string, frame: Buffer, hasHandle: boolean, sessions: number): ResponseFrame {
  const code = responseCode(command, frame);
  const tag = frame.readUInt16BE(0);
  if (tag !== (sessions > 0 ? TPM_ST.SESSIONS : TPM_ST.NO_SESSIONS)) throw new ChipResponseForged(command, 'it has the wrong tag');
  const reader = new Reader(frame.subarray(HEADER_SIZE), true);
  try {
    const handle = hasHandle ? reader.uint32() : undefined;
    const parameters = reader.view(sessions > 0 ? reader.uint32() : reader.remaining);
    const authorizations = Array.from({ length: sessions }, () => readAuth(reader));
    if (reader.remaining > 0) throw new ChipResponseForged(command, 'it is too long');
    return { code, handle, parameters, authorizations };
  } catch (error) {
    if (error instanceof ChipResponseForged) throw error;
    throw new ChipResponseForged(command, 'it is too short');
  }
}

function readAuth(reader: Reader): AuthResponse {
  const nonceTPM = reader.view(reader.uint16());
  const sessionAttributes = reader.uint8();
  return { nonceTPM, sessionAttributes, hmac: reader.view(reader.uint16()) };
}
