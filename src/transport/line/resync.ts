// TPM 2.0 Library Part 1, 18: how commands are found on a line that may lose bytes or bring noise. A pure state machine.
import { MAX_COMMAND_SIZE } from '../../tpm/constants/index.js';
import { frameSize, HEADER_SIZE, SIZE_END } from '../../tpm/frame.js';

/** Bytes that may begin a command, at most one command's, and when the last of them came. */
export interface LineState {
  readonly bytes: Buffer;
  /** Milliseconds on any clock that only goes forward. */
  readonly since: number;
}

/** Nothing has come yet. */
export const quietLine: LineState = { bytes: Buffer.alloc(0), since: 0 };

/** What one piece of input, or silence, made of the line. */
export interface LineStep {
  readonly state: LineState;
  /** Commands that are complete now, in order. */
  readonly frames: readonly Buffer[];
  /** Number of bytes that were thrown away as noise. */
  readonly noise: number;
}

/** How long the rest of a command may stay away before its header is taken for noise, in milliseconds. */
export const LINE_GAP_MS = 2_000;

/** Adds bytes that came at `now`. How the stream is cut into pieces does not change the commands. */
export function feedLine(state: LineState, input: Buffer, now: number): LineStep {
  const before = expireLine(state, now);
  const found = scan(before.state.bytes.length === 0 ? input : Buffer.concat([before.state.bytes, input]));
  return {
    state: { bytes: Buffer.from(found.rest), since: now },
    frames: [...before.frames, ...found.frames],
    noise: before.noise + found.noise,
  };
}

/**
 * Silence until `now`. If the rest of a command has stayed away for {@link LINE_GAP_MS}, what looked like its header was noise or the
 * command is lost; commands that stand in what it seemed to contain are found, so that their sender does not wait for ever.
 */
export function expireLine(state: LineState, now: number): LineStep {
  if (state.bytes.length === 0 || now - state.since < LINE_GAP_MS) return { state, frames: [], noise: 0 };
  const frames: Buffer[] = [];
  let noise = 0;
  let rest = state.bytes;
  while (rest.length > 0) {
    const found = scan(rest.subarray(1));
    frames.push(...found.frames);
    noise += 1 + found.noise;
    rest = found.rest;
  }
  return { state: { bytes: rest, since: now }, frames, noise };
}

/** A command is running: the time that it takes is none in which its sender was silent. */
export function touchLine(state: LineState, now: number): LineState {
  return state.bytes.length === 0 ? state : { bytes: state.bytes, since: now };
}

/** Takes the commands from the front of `bytes`, skipping what can begin none; `rest` is empty or begins like one. */
function scan(bytes: Buffer): { frames: Buffer[]; noise: number; rest: Buffer } {
  const frames: Buffer[] = [];
  let noise = 0;
  let rest = bytes;
  while (rest.length > 0) {
    if (!beginsCommand(rest)) {
      noise += 1;
      rest = rest.subarray(1);
      continue;
    }
    if (rest.length < HEADER_SIZE) break;
    const size = frameSize(rest);
    if (rest.length < size) break;
    frames.push(Buffer.from(rest.subarray(0, size)));
    rest = rest.subarray(size);
  }
  return { frames, noise, rest };
}

/** Reserved bits of a TPM_CC (Part 2, 8.9): all but V (vendor) and the command index. */
const CODE_RESERVED = [0xdf, 0xff] as const;

/** Whether these bytes, as far as they go, are a header: tag TPM_ST_NO_SESSIONS or TPM_ST_SESSIONS, size 10 to 4096, a TPM_CC. */
function beginsCommand(bytes: Buffer): boolean {
  const at = (index: number): number => bytes[index] ?? 0;
  if (at(0) !== 0x80 || (bytes.length > 1 && at(1) !== 1 && at(1) !== 2)) return false;
  if (at(2) !== 0 || at(3) !== 0 || at(4) > MAX_COMMAND_SIZE >> 8) return false;
  if (bytes.length >= SIZE_END) {
    const size = frameSize(bytes);
    if (size < HEADER_SIZE || size > MAX_COMMAND_SIZE) return false;
  }
  return CODE_RESERVED.every((mask, index) => (at(6 + index) & mask) === 0);
}
