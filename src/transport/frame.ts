// TPM 2.0 Library Part 1, 18: how a byte stream is cut into commands.
import { MAX_COMMAND_SIZE } from '../tpm/constants/index.js';
import { frameSize, HEADER_SIZE, SIZE_END } from '../tpm/frame.js';

/** Bytes of a command that is not complete yet; at most one command's. */
export type FrameState = Buffer;

/** Nothing has come yet. */
export const noFrame: FrameState = Buffer.alloc(0);

/** TPM_SEND_COMMAND of the simulator, which may stand before a command: 8, locality (1), size (4). */
const SEND_COMMAND = 8;
const PREFIX_SIZE = 9;

/** One command of a stream. */
export interface FramedCommand {
  readonly frame: Buffer;
  /** The locality in the simulator's prefix; undefined for a command without one. */
  readonly locality: number | undefined;
  /** Bytes of the stream. */
  readonly size: number;
}

/** What one piece of input made of the stream. */
export interface FrameStep {
  readonly state: FrameState;
  /** The commands that are complete now, in order. */
  readonly commands: readonly FramedCommand[];
  /** Why the stream cannot go on: a header with an impossible size. What was complete before it stands in `commands`. */
  readonly violation?: string;
}

/**
 * Adds the next piece of the stream. A pure function: how the stream is cut into pieces does not change the commands.
 * @param mayHavePrefix whether a command may have the simulator's prefix
 */
export function feedFrames(state: FrameState, input: Buffer, mayHavePrefix = false): FrameStep {
  let rest = state.length === 0 ? input : Buffer.concat([state, input]);
  const commands: FramedCommand[] = [];
  while (rest.length >= SIZE_END) {
    const prefixed = mayHavePrefix && rest.readUInt32BE(0) === SEND_COMMAND;
    if (prefixed && rest.length < PREFIX_SIZE) break;
    const begin = prefixed ? PREFIX_SIZE : 0;
    const size = prefixed ? rest.readUInt32BE(PREFIX_SIZE - 4) : frameSize(rest);
    if (size < HEADER_SIZE || size > MAX_COMMAND_SIZE) {
      return { state: noFrame, commands, violation: `a command header says ${size.toString()} bytes` };
    }
    const end = begin + size;
    if (rest.length < end) break;
    commands.push({ frame: rest.subarray(begin, end), locality: prefixed ? rest.readUInt8(4) : undefined, size: end });
    rest = rest.subarray(end);
  }
  // A copy, so that a few bytes do not keep the whole of a large input alive.
  return { state: rest.length === 0 ? noFrame : Buffer.from(rest), commands };
}
