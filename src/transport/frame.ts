// TPM 2.0 Library Part 1, 18: how a byte stream is cut into commands.
import { MAX_COMMAND_SIZE } from '../tpm/constants/index.js';
import { frameSize, HEADER_SIZE, SIZE_END } from '../tpm/frame.js';

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
    const size = frameSize(rest);
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
