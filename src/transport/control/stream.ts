// swtpm control channel: how its byte stream is cut into requests. Integers are big-endian.

/** How much follows the number of a request, in bytes. */
export interface BodySize {
  /** Always there. */
  readonly body: number;
  /** Zero bytes that may follow, because the client sends a whole C union. */
  readonly padding?: number;
  /** Most bytes that may follow the body; how many do is in its last four bytes. */
  readonly maxPayload?: number;
}

/** Bytes not used yet, and whether they may begin with padding of the request before. */
export interface ControlState {
  readonly bytes: Buffer;
  readonly padding: number;
  /** Padding that was thrown away since the last request. */
  readonly skipped: number;
}

export const noControl: ControlState = { bytes: Buffer.alloc(0), padding: 0, skipped: 0 };

export interface ControlRequest {
  readonly number: number;
  /** Payload included. */
  readonly body: Buffer;
  /** Bytes of the stream up to its end, from the end of the request before: padding of that one included. */
  readonly size: number;
}

export interface ControlStep {
  readonly state: ControlState;
  readonly requests: readonly ControlRequest[];
  /** Why the stream cannot go on. What was complete before it stands in `requests`. */
  readonly violation?: string;
}

const NUMBER_SIZE = 4;
/** Requests are numbered from 1 on. What is beyond this is not a request of a newer client either: the peer speaks something else. */
const LAST_PLAUSIBLE = 0xff;
const LENGTH_SIZE = 4;

/** How many bytes the request at the beginning of `bytes` has, as far as that can be told by now. */
function requestSize(bytes: Buffer, size: BodySize | undefined): { end: number; payload: number } {
  if (size === undefined) return { end: bytes.length, payload: 0 };
  const end = NUMBER_SIZE + size.body;
  if (size.maxPayload === undefined || bytes.length < end) return { end, payload: 0 };
  const payload = bytes.readUInt32BE(end - LENGTH_SIZE);
  return { end: end + payload, payload };
}

/**
 * Adds the next piece of the stream. The protocol has no length field: the number gives the length. Padding is told from the next
 * request by its number: no request has number 0. After a number that `sizeOf` does not know nothing can be told
 * apart any more, so it is reported with all that has come as its body; the stream ends there if no client can mean it.
 */
export function feedControl(state: ControlState, input: Buffer, sizeOf: (number: number) => BodySize | undefined): ControlStep {
  let bytes = state.bytes.length === 0 ? input : Buffer.concat([state.bytes, input]);
  let { padding, skipped } = state;
  const requests: ControlRequest[] = [];
  while (bytes.length >= NUMBER_SIZE) {
    const number = bytes.readUInt32BE(0);
    if (number === 0 && padding > 0) {
      bytes = bytes.subarray(padding);
      skipped = padding;
      padding = 0;
      continue;
    }
    const size = sizeOf(number);
    const { end, payload } = requestSize(bytes, size);
    if (payload > (size?.maxPayload ?? 0)) {
      return { state: noControl, requests, violation: `a control request says ${payload.toString()} bytes follow` };
    }
    if (bytes.length < end) break;
    requests.push({ number, body: bytes.subarray(NUMBER_SIZE, end), size: skipped + end });
    if (size === undefined && number > LAST_PLAUSIBLE) {
      return { state: noControl, requests, violation: `0x${number.toString(16)} is no control request` };
    }
    bytes = bytes.subarray(end);
    skipped = 0;
    padding = size?.padding ?? 0;
  }
  return { state: { bytes: Buffer.from(bytes), padding, skipped }, requests };
}

/** Whether the client owes the rest of a request; padding that has come in part is not one. */
export function owesRest(state: ControlState): boolean {
  const onlyPadding = state.bytes.length <= state.padding && state.bytes.every((byte) => byte === 0);
  return state.bytes.length > 0 && !onlyPadding;
}
