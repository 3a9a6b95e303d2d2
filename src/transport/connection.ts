// One connection of a peer: pieces in, responses out, one at a time, nothing read before the last response is on its way.
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { closeFd } from '../native/index.js';
import { TPM_RC } from '../tpm/response-code.js';
import type { Channel } from './channel.js';
import { CONTROL_RESULT, controlCommand, controlResult } from './control/commands.js';
import type { ControlSession } from './control/session.js';
import { feedControl, noControl, owesRest, type ControlRequest } from './control/stream.js';
import { errorFrame, feedFrames, noFrame } from './frame.js';
import type { GuestLink } from './guest-link.js';

/** What came of one piece of input. */
export interface Step<Request> {
  readonly requests: readonly Request[];
  /** The peer owes the rest of a request. */
  readonly partial: boolean;
  readonly violation?: string | undefined;
  /** The peer has ended its session in order: the connection is closed after the answers. */
  readonly end?: boolean;
}

/** Who ended a connection: the peer, {@link Connection.finish}, or {@link Connection.leave}. */
export type Ending = 'peer' | 'finished' | 'left';

/** A protocol on a stream: cuts the input into requests and answers them. */
export interface Protocol<Request> {
  feed(input: Buffer): Step<Request>;
  /** Bytes of the stream up to the end of the request, from the end of the one before. */
  sizeOf(request: Request): number;
  /** Resolves when the request may be executed. */
  ready?(): Promise<void>;
  /** @param token what the TPM knows a command by, see {@link GuestTpm.answered} */
  answer(request: Request, token: number): Promise<Buffer>;
  /** The answer to a request over which a daemon died; undefined if it can be executed again. */
  interrupted(request: Request, token: number): Buffer | undefined;
  /** What has to be known after the request, apart from the input, to go on: 32 bits. */
  noteAfter?(request: Request): number;
  done?(ending: Ending): Promise<void>;
}

/** A connection that is being served. */
export interface Connection {
  readonly open: boolean;
  readonly ended: Promise<Ending>;
  /** Lets the request that runs end, sends its response and closes; at the latest after `grace` milliseconds. */
  finish(grace: number): Promise<void>;
  /** As {@link finish}, but the peer does not notice: somebody else has the descriptor and the exchange. */
  leave(grace: number): Promise<void>;
}

/** Serves TPM commands. `onCommand` is told of each. */
export function serveData(channel: Channel, link: GuestLink, onCommand: () => void = () => undefined): Connection {
  let state = noFrame;
  return serve(channel, link, {
    feed: (input) => {
      const step = feedFrames(state, input);
      state = step.state;
      return { requests: step.frames, partial: state.length > 0, violation: step.violation };
    },
    sizeOf: (frame) => frame.length,
    answer: (frame, token) => {
      onCommand();
      return link.tpm.execute(frame, link.locality, token);
    },
    interrupted: (_frame, token) => interruptedCommand(link, token),
  });
}

/** The response to a command over which a daemon died. If it had no effect it can be sent again. */
export function interruptedCommand({ tpm }: GuestLink, token: number): Buffer {
  return tpm.answered(token) ?? errorFrame(TPM_RC.RETRY);
}

let tokens = randomInt(0x1_0000_0000);

/** One that no other command had for a long time. */
function nextToken(): number {
  tokens = (tokens + 1) >>> 0 || 1;
  return tokens;
}

const PADDING_MASK = 0xff;

/** Serves control requests. Descriptors may come on it with `withDescriptors`. */
export function serveControl(channel: Channel, session: ControlSession, withDescriptors: boolean): Connection {
  const { link } = session;
  let state = { ...noControl, padding: channel.exchange.note & PADDING_MASK };
  let { padding } = state;
  session.onNote = (note) => {
    channel.exchange.note = note | padding;
  };
  return serve<ControlRequest>(
    channel,
    link,
    {
      feed: (bytes) => {
        const step = feedControl(state, bytes, controlCommand);
        state = step.state;
        return { requests: step.requests, partial: owesRest(state), violation: step.violation };
      },
      sizeOf: ({ size }) => size,
      ready: () => link.turn.wait(session),
      answer: (request) => runControl(session, request),
      interrupted: ({ number, body }) =>
        controlCommand(number)?.repeatable?.(body) === true ? undefined : controlResult(CONTROL_RESULT.fail),
      noteAfter: ({ number }) => {
        padding = controlCommand(number)?.padding ?? 0;
        return session.note | padding;
      },
      done: (ending) => session.end(ending),
    },
    withDescriptors
      ? (fds) => {
          session.receive(fds);
        }
      : undefined,
  );
}

async function runControl(session: ControlSession, request: ControlRequest): Promise<Buffer> {
  const { link } = session;
  const command = controlCommand(request.number);
  if (command === undefined) return controlResult(CONTROL_RESULT.badOrdinal);
  try {
    session.begin();
    const response = await command.run(session, request.body);
    link.remember();
    return response;
  } catch (error) {
    link.onDefect(error);
    return controlResult(CONTROL_RESULT.fail);
  }
}

/** Serves `protocol` on `channel`, from where its exchange stands. Descriptors that come go to `takeDescriptors` before the bytes beside them. */
export function serve<Request>(
  channel: Channel,
  link: GuestLink,
  protocol: Protocol<Request>,
  takeDescriptors?: (fds: readonly number[]) => void,
): Connection {
  const { exchange } = channel;
  let ending: Ending | undefined;
  let busy = false;
  const deadline = new Deadline(link.limits.partialFrameTimeout, () => {
    link.onRejection('slow_command');
    channel.close();
  });
  const answer = async (request: Request): Promise<void> => {
    const { phase } = exchange;
    if (phase === 'idle') exchange.begin(protocol.sizeOf(request), nextToken());
    const { token } = exchange;
    if (phase !== 'answered') {
      const again = phase === 'executing' ? protocol.interrupted(request, token) : undefined;
      exchange.answer(again ?? (await protocol.answer(request, token)));
    }
    await send(channel, link);
    exchange.done(protocol.noteAfter?.(request) ?? 0);
  };
  const answerAll = async (requests: readonly Request[]): Promise<void> => {
    for (const request of requests) {
      await protocol.ready?.();
      if (ending !== undefined || channel.closed) return;
      busy = true;
      await answer(request);
      busy = false;
    }
  };
  const run = async (): Promise<void> => {
    for (let input = exchange.input(); ;) {
      if (input.length > 0) {
        const step = protocol.feed(input);
        // A response is sent before the clock of the next command starts.
        if (step.requests.length > 0) deadline.stop();
        await answerAll(step.requests);
        if (step.violation !== undefined) link.onRejection('bad_header');
        if (ending !== undefined || step.violation !== undefined || step.end === true) return;
        if (step.partial) deadline.start();
      }
      const received = await channel.receive(takeDescriptors !== undefined);
      if (received === undefined) return;
      if (takeDescriptors === undefined) received.fds.forEach(closeFd);
      else takeDescriptors(received.fds);
      input = received.data;
    }
  };
  const ended = run()
    .catch((error: unknown) => {
      if (!isPeerGone(error)) link.onDefect(error);
    })
    .then(async () => {
      deadline.stop();
      ending ??= 'peer';
      if (ending === 'left') channel.leave();
      else channel.close();
      await protocol.done?.(ending);
    })
    .catch((error: unknown) => {
      link.onDefect(error);
    })
    .then(() => ending ?? 'peer');
  return {
    get open() {
      return !channel.closed;
    },
    ended,
    finish: async (grace) => {
      ending ??= 'finished';
      if (!busy) channel.close();
      const timer = setTimeout(() => {
        channel.close();
      }, grace);
      await ended;
      clearTimeout(timer);
    },
    leave: async (grace) => {
      ending ??= 'left';
      deadline.stop();
      if (busy) await Promise.race([ended, delay(grace, undefined, { ref: false })]);
      // The request that still runs is one that was interrupted.
      channel.leave();
    },
  };
}

/** Runs out once, unless stopped; starting it while it runs does not prolong it. */
class Deadline {
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly milliseconds: number,
    private readonly expire: () => void,
  ) {}

  start(): void {
    this.timer ??= setTimeout(this.expire, this.milliseconds);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}

/** Resolves when the kernel has taken the response, or the peer is gone. */
async function send(channel: Channel, link: GuestLink): Promise<void> {
  const giveUp = setTimeout(() => {
    link.onRejection('unread_response');
    channel.close();
  }, link.limits.unreadResponseTimeout);
  try {
    await channel.flush();
  } finally {
    clearTimeout(giveUp);
  }
}

// EMSGSIZE: more descriptors came than any request has.
const GONE = new Set(['EMSGSIZE', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH']);

function isPeerGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && GONE.has(String(error.code));
}
