// Microsoft's TPM simulator, TpmTcpProtocol.h: its command port and its platform port. Integers are big-endian.
import { quickAck } from '../../native/index.js';
import { errorResponse } from '../../tpm/frame.js';
import { TPM_RC } from '../../tpm/response-code.js';
import { uint32Bytes } from '../../tpm/wire.js';
import type { PlatformSignal } from '../../vtpm/guest-tpm.js';
import type { Channel } from '../channel.js';
import { serve, type Connection } from '../connection.js';
import type { GuestLink } from '../guest-link.js';
import { interruptedCommand } from '../tpm-commands.js';
import { feedMssim, MSSIM, noMssim, NUMBER_SIZE, type MssimRequest } from './stream.js';

/** What a request is answered; undefined: nothing at all. */
type Answer = Buffer | undefined | Promise<Buffer | undefined>;
type Run = (link: GuestLink, request: MssimRequest, token: number, onEffect: () => void) => Answer;
type Requests = ReadonlyMap<number, Run>;

/** tpmInRawMode: no resource manager stands before the TPM. */
const END_POINT = { platformAvailable: 0x01, inRawMode: 0x04, supportsPhysicalPresence: 0x08 } as const;
const SERVER_VERSION = 1;
const MAX_LOCALITY = 4;
/** Where the code of a command or response stands. */
const CODE_AT = 6;

/** Every answer ends with this. */
const done = uint32Bytes(0);
/** The answer to a request that is not served. */
const refused = uint32Bytes(1);

/** {size, bytes}, result. */
function counted(bytes: Buffer): Buffer {
  return Buffer.concat([uint32Bytes(bytes.length), bytes, done]);
}

async function sendCommand(link: GuestLink, { head, data }: MssimRequest, token: number, onEffect: () => void): Promise<Buffer> {
  const locality = head.readUInt8(0);
  const sizes = sizesOf(link);
  sizes.command = largest(sizes.command, data);
  const response = locality > MAX_LOCALITY ? errorResponse(TPM_RC.LOCALITY) : await link.tpm.execute(data, locality, token, onEffect);
  sizes.response = largest(sizes.response, response);
  return counted(response);
}

/** The largest command and response since somebody asked, as far as they tell: size, and what stands where the code does. */
interface Sizes {
  command: Buffer;
  response: Buffer;
}

const NO_SIZE = Buffer.alloc(8);
const sizesOfGuests = new WeakMap<GuestLink['tpm'], Sizes>();

function sizesOf({ tpm }: GuestLink): Sizes {
  const known = sizesOfGuests.get(tpm) ?? { command: NO_SIZE, response: NO_SIZE };
  sizesOfGuests.set(tpm, known);
  return known;
}

/** The simulator gives its memory as it is: sizes in the order of its processor, codes in that of the frame. */
function largest(known: Buffer, frame: Buffer): Buffer {
  if (frame.length <= known.readUInt32LE(0)) return known;
  const bytes = Buffer.alloc(NO_SIZE.length);
  bytes.writeUInt32LE(frame.length, 0);
  frame.copy(bytes, 4, CODE_AT, CODE_AT + 4);
  return bytes;
}

function commandResponseSizes(link: GuestLink): Buffer {
  const { command, response } = sizesOf(link);
  sizesOfGuests.delete(link.tpm);
  return counted(Buffer.concat([command, response]));
}

function handshake(_link: GuestLink, { head }: MssimRequest): Buffer {
  if (head.readUInt32BE(0) === 0) return refused;
  const { platformAvailable, inRawMode, supportsPhysicalPresence } = END_POINT;
  return Buffer.concat([uint32Bytes(SERVER_VERSION), uint32Bytes(platformAvailable | inRawMode | supportsPhysicalPresence), done]);
}

async function powerOn({ tpm }: GuestLink): Promise<Buffer> {
  if (!tpm.powered) await tpm.powerOn();
  return done;
}

async function powerOff({ tpm }: GuestLink): Promise<Buffer> {
  if (tpm.powered) await tpm.powerOff();
  return done;
}

async function reset({ tpm }: GuestLink): Promise<Buffer> {
  if (tpm.powered) {
    await tpm.powerOff();
    await tpm.powerOn();
  }
  return done;
}

/** It ends the simulator; here one machine's use of the TPM, until the next SIGNAL_POWER_ON. */
async function stop(link: GuestLink): Promise<undefined> {
  await powerOff(link);
}

const acknowledge = (): Buffer => done;

const signal =
  (what: PlatformSignal): Run =>
  async ({ tpm }) => {
    await tpm.signal(what);
    return done;
  };
const sayNothing = (): undefined => undefined;

/** Nothing happens without power, as in the simulator. */
const whilePowered =
  (run: (link: GuestLink, request: MssimRequest) => Promise<void>) =>
  async (link: GuestLink, request: MssimRequest): Promise<Buffer> => {
    if (link.tpm.powered) await run(link, request);
    return done;
  };

/** Requests of both ports; the simulator takes the D-RTM ones on its command port only. */
const session = [
  [MSSIM.SESSION_END, sayNothing],
  [MSSIM.STOP, stop],
  [MSSIM.SIGNAL_HASH_START, whilePowered(({ tpm }) => tpm.hashStart())],
  [MSSIM.SIGNAL_HASH_DATA, whilePowered(({ tpm }, { data }) => tpm.hashData(data))],
  [MSSIM.SIGNAL_HASH_END, whilePowered(({ tpm }) => tpm.hashEnd())],
] as const;

const COMMAND_PORT: Requests = new Map<number, Run>([
  ...session,
  [MSSIM.SEND_COMMAND, sendCommand],
  [MSSIM.REMOTE_HANDSHAKE, handshake],
  [MSSIM.SET_ALTERNATIVE_RESULT, acknowledge],
]);

const PLATFORM_PORT: Requests = new Map<number, Run>([
  ...session,
  [MSSIM.SIGNAL_POWER_ON, powerOn],
  [MSSIM.SIGNAL_POWER_OFF, powerOff],
  [MSSIM.SIGNAL_RESET, reset],
  [MSSIM.SIGNAL_RESTART, signal('restart timer')],
  [MSSIM.SIGNAL_PHYS_PRES_ON, signal('presence on')],
  [MSSIM.SIGNAL_PHYS_PRES_OFF, signal('presence off')],
  [MSSIM.SIGNAL_NV_ON, signal('nv on')],
  [MSSIM.SIGNAL_NV_OFF, signal('nv off')],
  // There is no cache of keys that are known beforehand.
  [MSSIM.SIGNAL_KEY_CACHE_ON, acknowledge],
  [MSSIM.SIGNAL_KEY_CACHE_OFF, acknowledge],
  [
    MSSIM.SIGNAL_CANCEL_ON,
    ({ tpm }) => {
      tpm.cancel();
      return done;
    },
  ],
  [MSSIM.SIGNAL_CANCEL_OFF, acknowledge],
  [MSSIM.GET_COMMAND_RESPONSE_SIZES, commandResponseSizes],
  [MSSIM.TEST_FAILURE_MODE, signal('fail self-test')],
  // There is no authenticated countdown timer, so none is signaled.
  [MSSIM.ACT_GET_SIGNALED, () => Buffer.concat([uint32Bytes(0), done])],
]);

/**
 * Serves the command port. `platformSettled` resolves when what came to the platform port before is done: Microsoft's TSS for Java does not
 * wait for all of its answers, and sends TPM2_Startup while the power is still on its way.
 */
export function serveMssimCommands(channel: Channel, link: GuestLink, platformSettled: () => Promise<void>): Connection {
  return serveRequests(channel, link, COMMAND_PORT, async ({ number }) => {
    if (number === MSSIM.SEND_COMMAND) await platformSettled();
  });
}

/** Serves the platform port. */
export function serveMssimPlatform(channel: Channel, link: GuestLink): Connection {
  return serveRequests(channel, link, PLATFORM_PORT, () => Promise.resolve());
}

/** Requests that may not be executed twice. */
const ONCE: ReadonlySet<number> = new Set([MSSIM.SIGNAL_HASH_START, MSSIM.SIGNAL_HASH_DATA, MSSIM.SIGNAL_HASH_END]);

function interrupted(link: GuestLink, { number }: MssimRequest, token: number): Buffer | undefined {
  if (number === MSSIM.SEND_COMMAND) return counted(interruptedCommand(link, token));
  return ONCE.has(number) ? refused : undefined;
}

function serveRequests(channel: Channel, link: GuestLink, requests: Requests, ready: (request: MssimRequest) => Promise<void>): Connection {
  let state = noMssim;
  return serve<MssimRequest>(channel, link, {
    feed: (input) => {
      const step = feedMssim(state, input, (number) => requests.has(number));
      state = step.state;
      // tpm2-tss sends a command in two pieces: its kernel keeps the second one until the first is acknowledged, 40 ms later.
      if (state.length > 0 && !channel.closed) quickAck(channel.fd);
      return { ...step, partial: state.length > 0 };
    },
    sizeOf: ({ head, data }) => NUMBER_SIZE + head.length + data.length,
    ready,
    answer: async (request, token, onEffect) => {
      const run = requests.get(request.number);
      if (run === undefined) return refused;
      const answer = (await run(link, request, token, onEffect)) ?? Buffer.alloc(0);
      link.remember();
      return answer;
    },
    interrupted: (request, token) => interrupted(link, request, token),
  });
}
