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
}

export const noControl: ControlState = { bytes: Buffer.alloc(0), padding: 0 };

export interface ControlRequest {
  readonly number: number;
  /** Payload included. */
  readonly body: Buffer;
}

export interface ControlStep {
  readonly state: ControlState;
  readonly requests: readonly ControlRequest[];
  /** Why the stream cannot go on. What was complete before it stands in `requests`. */
  readonly violation?: string;
}

const NUMBER_SIZE = 4;
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
 * apart any more, so it is reported with all that has come as its body.
 */
export function feedControl(state: ControlState, input: Buffer, sizeOf: (number: number) => BodySize | undefined): ControlStep {
  let bytes = state.bytes.length === 0 ? input : Buffer.concat([state.bytes, input]);
  let { padding } = state;
  const requests: ControlRequest[] = [];
  while (bytes.length >= NUMBER_SIZE) {
    const number = bytes.readUInt32BE(0);
    if (number === 0 && padding > 0) {
      bytes = bytes.subarray(padding);
      padding = 0;
      continue;
    }
    const size = sizeOf(number);
    const { end, payload } = requestSize(bytes, size);
    if (payload > (size?.maxPayload ?? 0)) {
      return { state: noControl, requests, violation: `a control request says ${payload.toString()} bytes follow` };
    }
    if (bytes.length < end) break;
    requests.push({ number, body: bytes.subarray(NUMBER_SIZE, end) });
    bytes = bytes.subarray(end);
    padding = size?.padding ?? 0;
  }
  return { state: { bytes: Buffer.from(bytes), padding }, requests };
}

/** Whether the client owes the rest of a request; padding that has come in part is not one. */
export function owesRest(state: ControlState): boolean {
  const onlyPadding = state.bytes.length <= state.padding && state.bytes.every((byte) => byte === 0);
  return state.bytes.length > 0 && !onlyPadding;
}
