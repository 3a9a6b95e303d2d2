// TPM 2.0 Library Part 1, 18: a command's header is tag (2), size (4), command code (4). How a byte stream is cut into commands.
import { MAX_COMMAND_SIZE } from '../vtpm/guest-tpm.js';

/** Tag, size and command code. */
export const HEADER_SIZE = 10;
const SIZE_OFFSET = 2;
const SIZE_END = 6;

/** A response of a header alone; also for `TPM_RC_SUCCESS`. */
export function errorFrame(code: number): Buffer {
  const frame = Buffer.from('80010000000a00000000', 'hex');
  frame.writeUInt32BE(code, SIZE_END);
  return frame;
}

/** Bytes of a command that is not complete yet; at most one command's. */
export type FrameState = Buffer;

/** Nothing has come yet. */
export const noFrame: FrameState = Buffer.alloc(0);

/** What one piece of input made of the stream. */
export interface FrameStep {
  readonly state: FrameState;
  /** The commands that are complete now, in order. */
  readonly frames: readonly Buffer[];
  /** Why the stream cannot go on: a header with an impossible size. What was complete before it stands in `frames`. */
  readonly violation?: string;
}

/** Adds the next piece of the stream. A pure function: how the stream is cut into pieces does not change the commands. */
export function feedFrames(state: FrameState, input: Buffer): FrameStep {
  let rest = state.length === 0 ? input : Buffer.concat([state, input]);
  const frames: Buffer[] = [];
  while (rest.length >= SIZE_END) {
    const size = rest.readUInt32BE(SIZE_OFFSET);
    if (size < HEADER_SIZE || size > MAX_COMMAND_SIZE) {
      return { state: noFrame, frames, violation: `a command header says ${size.toString()} bytes` };
    }
    if (rest.length < size) break;
    frames.push(rest.subarray(0, size));
    rest = rest.subarray(size);
  }
  // A copy, so that a few bytes do not keep the whole of a large input alive.
  return { state: rest.length === 0 ? noFrame : Buffer.from(rest), frames };
}
