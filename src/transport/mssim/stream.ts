// Microsoft's TPM simulator, TpmTcpProtocol.h: how the streams of its two ports are cut into requests. Integers are big-endian.
import { MAX_COMMAND_SIZE } from '../../tpm/constants/index.js';

/** Requests; each is a UINT32, followed by what {@link feedMssim} says. */
export const MSSIM = {
  SIGNAL_POWER_ON: 1,
  SIGNAL_POWER_OFF: 2,
  SIGNAL_PHYS_PRES_ON: 3,
  SIGNAL_PHYS_PRES_OFF: 4,
  SIGNAL_HASH_START: 5,
  SIGNAL_HASH_DATA: 6,
  SIGNAL_HASH_END: 7,
  SEND_COMMAND: 8,
  SIGNAL_CANCEL_ON: 9,
  SIGNAL_CANCEL_OFF: 10,
  SIGNAL_NV_ON: 11,
  SIGNAL_NV_OFF: 12,
  SIGNAL_KEY_CACHE_ON: 13,
  SIGNAL_KEY_CACHE_OFF: 14,
  REMOTE_HANDSHAKE: 15,
  SIGNAL_RESET: 17,
  SIGNAL_RESTART: 18,
  SESSION_END: 20,
  STOP: 21,
  GET_COMMAND_RESPONSE_SIZES: 25,
  ACT_GET_SIGNALED: 26,
  TEST_FAILURE_MODE: 30,
  SET_ALTERNATIVE_RESULT: 31,
} as const;

/** How many bytes always follow a request's number. */
const FIXED: Readonly<Record<number, number>> = {
  [MSSIM.SIGNAL_HASH_DATA]: 4,
  // Locality (1) and size (4).
  [MSSIM.SEND_COMMAND]: 5,
  // Version of the client.
  [MSSIM.REMOTE_HANDSHAKE]: 4,
  // Handle of the authenticated countdown timer.
  [MSSIM.ACT_GET_SIGNALED]: 4,
  // Result.
  [MSSIM.SET_ALTERNATIVE_RESULT]: 4,
};
/** Requests whose fixed part ends with the number of bytes that follow it. */
const COUNTED: ReadonlySet<number> = new Set([MSSIM.SIGNAL_HASH_DATA, MSSIM.SEND_COMMAND]);

/** Bytes of a request that is not complete yet. */
export type MssimState = Buffer;

export const noMssim: MssimState = Buffer.alloc(0);

export interface MssimRequest {
  readonly number: number;
  /** What always follows the number. */
  readonly head: Buffer;
  /** The bytes that the head counts. */
  readonly data: Buffer;
}

export interface MssimStep {
  readonly state: MssimState;
  readonly requests: readonly MssimRequest[];
  /** Why the stream cannot go on. */
  readonly violation?: string;
  /** A request after which nothing is read: SESSION_END, STOP, or one that `serves` does not know (it is reported). */
  readonly end?: boolean;
}

/** Size of a request's number. */
export const NUMBER_SIZE = 4;

/** Adds the next piece of the stream of a port that knows the requests `serves`. */
export function feedMssim(state: MssimState, input: Buffer, serves: (number: number) => boolean): MssimStep {
  let rest = state.length === 0 ? input : Buffer.concat([state, input]);
  const requests: MssimRequest[] = [];
  while (rest.length >= NUMBER_SIZE) {
    const number = rest.readUInt32BE(0);
    const headEnd = NUMBER_SIZE + (serves(number) ? (FIXED[number] ?? 0) : 0);
    if (rest.length < headEnd) break;
    const count = serves(number) && COUNTED.has(number) ? rest.readUInt32BE(headEnd - 4) : 0;
    if (count > MAX_COMMAND_SIZE)
      return { state: noMssim, requests, violation: `request ${number.toString()} counts ${count.toString()} bytes` };
    if (rest.length < headEnd + count) break;
    requests.push({ number, head: rest.subarray(NUMBER_SIZE, headEnd), data: rest.subarray(headEnd, headEnd + count) });
    rest = rest.subarray(headEnd + count);
    if (number === MSSIM.SESSION_END || number === MSSIM.STOP || !serves(number)) return { state: noMssim, requests, end: true };
  }
  return { state: rest.length === 0 ? noMssim : Buffer.from(rest), requests };
}
