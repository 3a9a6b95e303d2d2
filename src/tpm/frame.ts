// TPM 2.0 Library Part 1, 18: command and response frames, for who sends commands and for who answers them. A header is tag (2 bytes),
// size of the frame (4) and command or response code (4), big-endian.
import { MAX_COMMAND_SIZE, TPM_ST } from './constants/index.js';
import { TPM_RC, TpmError } from './response-code.js';
import { ResponseForged } from './response-error.js';
import { TPMS_AUTH_COMMAND, TPMS_AUTH_RESPONSE } from './structures/index.js';
import { Reader, Writer } from './wire.js';

/** Bytes of a header. */
export const HEADER_SIZE = 10;
/** Bytes of a header's beginning that tell the size of the frame. */
export const SIZE_END = 6;
const SIZE_AT = 2;
const CODE_AT = SIZE_END;
/** The smallest authorization: handle, empty nonce, attributes, empty HMAC. */
const MIN_AUTH_SIZE = 9;
/** Bytes of an authorization with the largest nonce and HMAC. */
const MAX_AUTH_SIZE = 160;

/** What the header says the size of the frame is. {@link SIZE_END} bytes of it must be there; nothing is checked. */
export function frameSize(frame: Buffer): number {
  return frame.readUInt32BE(SIZE_AT);
}

/** The command or response code of a frame with a whole header. Nothing is checked. */
export function frameCode(frame: Buffer): number {
  return frame.readUInt32BE(CODE_AT);
}

/** Whether the tag of a frame with a whole header says that it has an authorization area. */
export function hasAuthorizations(frame: Buffer): boolean {
  return frame.readUInt16BE(0) === TPM_ST.SESSIONS;
}

/** A command. Its tag says whether there are authorizations. */
export function encodeCommand(
  code: number,
  handles: readonly number[],
  authorizations: readonly TPMS_AUTH_COMMAND[],
  parameters: Buffer,
): Buffer {
  const withSessions = authorizations.length > 0;
  const writer = startFrame(withSessions, code, 4 * handles.length + MAX_AUTH_SIZE * authorizations.length + parameters.length);
  for (const handle of handles) writer.uint32(handle >>> 0);
  if (withSessions) {
    const start = writer.size;
    writer.uint32(0);
    for (const authorization of authorizations) TPMS_AUTH_COMMAND.encode(writer, authorization);
    writer.patch32(start, writer.size - start - 4);
  }
  writer.raw(parameters);
  return endFrame(writer);
}

/**
 * Checks the header of a command and reads on behind it (Part 3, 5.2). `TPM_RC_INSUFFICIENT` if there is no whole header, `TPM_RC_BAD_TAG`,
 * `TPM_RC_COMMAND_SIZE`.
 */
export function openCommand(frame: Buffer): Reader {
  if (frame.length < HEADER_SIZE) throw new TpmError(TPM_RC.INSUFFICIENT);
  const tag = frame.readUInt16BE(0);
  if (tag !== TPM_ST.SESSIONS && tag !== TPM_ST.NO_SESSIONS) throw new TpmError(TPM_RC.BAD_TAG);
  if (frameSize(frame) !== frame.length || frame.length > MAX_COMMAND_SIZE) throw new TpmError(TPM_RC.COMMAND_SIZE);
  return new Reader(frame, false, HEADER_SIZE);
}

/** The authorizations of a command, as a view, without their size; each is a {@link TPMS_AUTH_COMMAND}. `TPM_RC_SIZE` if that cannot be. */
export function authorizationArea(reader: Reader): Buffer {
  const size = reader.uint32();
  if (size < MIN_AUTH_SIZE || size > reader.remaining) throw new TpmError(TPM_RC.SIZE);
  return reader.view(size);
}

/** A response of a header alone: what every error is, and success without a result. */
export function errorResponse(code: number): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_SIZE);
  frame.writeUInt16BE(TPM_ST.NO_SESSIONS, 0);
  frame.writeUInt32BE(HEADER_SIZE, SIZE_AT);
  frame.writeUInt32BE(code, CODE_AT);
  return frame;
}

/** The response to a command that succeeded; with as many authorizations as the command had. */
export function encodeResponse(handle: number | undefined, parameters: Buffer, authorizations: readonly TPMS_AUTH_RESPONSE[]): Buffer {
  const withSessions = authorizations.length > 0;
  const writer = startFrame(withSessions, TPM_RC.SUCCESS, 8 + parameters.length + MAX_AUTH_SIZE * authorizations.length);
  if (handle !== undefined) writer.uint32(handle);
  if (withSessions) writer.uint32(parameters.length);
  writer.raw(parameters);
  for (const authorization of authorizations) TPMS_AUTH_RESPONSE.encode(writer, authorization);
  return endFrame(writer);
}

/** A successful response, taken apart; all bytes are views into the frame. */
export interface ResponseFrame {
  readonly handle: number | undefined;
  readonly parameters: Buffer;
  /** One for each authorization of the command. */
  readonly authorizations: readonly TPMS_AUTH_RESPONSE[];
}

/** The response code of a frame. Throws {@link ResponseForged} if it is no response frame. */
export function responseCode(command: string, frame: Buffer): number {
  if (frame.length < HEADER_SIZE || frameSize(frame) !== frame.length) throw new ResponseForged(command, 'its size is wrong');
  return frameCode(frame);
}

/**
 * Takes a successful response apart.
 * @param sessions how many authorizations the command had, and so the response must have; undefined if any number will do
 * @throws {ResponseForged} if the frame does not have that form
 */
export function decodeResponse(command: string, frame: Buffer, hasHandle: boolean, sessions?: number): ResponseFrame {
  const withSessions = hasAuthorizations(frame);
  if (sessions !== undefined && withSessions !== sessions > 0) throw new ResponseForged(command, 'it has the wrong tag');
  const reader = new Reader(frame, true, HEADER_SIZE);
  try {
    const handle = hasHandle ? reader.uint32() : undefined;
    const parameters = reader.view(withSessions ? reader.uint32() : reader.remaining);
    const authorizations: TPMS_AUTH_RESPONSE[] = [];
    while (reader.remaining > 0) authorizations.push(TPMS_AUTH_RESPONSE.decode(reader));
    if (sessions !== undefined && authorizations.length !== sessions)
      throw new ResponseForged(command, 'it has not as many sessions as the command');
    return { handle, parameters, authorizations };
  } catch (error) {
    if (!(error instanceof TpmError)) throw error;
    throw new ResponseForged(command, error.code === TPM_RC.INSUFFICIENT ? 'it is too short' : error.message);
  }
}

function startFrame(withSessions: boolean, code: number, capacity: number): Writer {
  const writer = new Writer(HEADER_SIZE + 4 + capacity);
  writer.uint16(withSessions ? TPM_ST.SESSIONS : TPM_ST.NO_SESSIONS);
  writer.uint32(0);
  writer.uint32(code);
  return writer;
}

function endFrame(writer: Writer): Buffer {
  writer.patch32(SIZE_AT, writer.size);
  return writer.finish();
}
