// One connection of a peer: pieces in, responses out, one at a time, nothing read before the last response is on its way.
import type { Socket } from 'node:net';
import { CONTROL_RESULT, controlCommand, controlResult } from './control-commands.js';
import { receive } from './control-input.js';
import type { ControlSession } from './control-session.js';
import { feedControl, noControl, owesRest, type ControlRequest } from './control-stream.js';
import { feedFrames, noFrame } from './frame.js';
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

/** A protocol on a stream: cuts the input into requests and answers them. */
export interface Protocol<Request> {
  feed(input: Buffer): Step<Request>;
  answer(request: Request): Promise<Buffer>;
  /** The connection has ended; `finished` is true if it was by {@link Connection.finish}. */
  done?(finished: boolean): Promise<void>;
}

/** A connection that is being served. */
export interface Connection {
  /** Lets the request that runs end, sends its response and closes; at the latest after `grace` milliseconds. */
  finish(grace: number): Promise<void>;
}

/** Serves TPM commands on `socket`, which must be half-open capable. `onCommand` is told of each. */
export function serveData(socket: Socket, link: GuestLink, onCommand: () => void = () => undefined): Connection {
  let state = noFrame;
  return serve(socket, link, {
    feed: (input) => {
      const step = feedFrames(state, input);
      state = step.state;
      return { requests: step.frames, partial: state.length > 0, violation: step.violation };
    },
    answer: (frame) => {
      onCommand();
      return link.tpm.execute(frame, link.locality);
    },
  });
}

/**
 * Serves control requests on `socket`, which must be half-open capable. If it is `paused` it is a UNIX socket, on which descriptors
 * may come.
 */
export function serveControl(socket: Socket, session: ControlSession, paused: boolean): Connection {
  const { link } = session;
  let state = noControl;
  const input = paused
    ? receive(socket, (fds) => {
        session.receive(fds);
      })
    : socket;
  return serve(
    socket,
    link,
    {
      feed: (bytes) => {
        const step = feedControl(state, bytes, controlCommand);
        state = step.state;
        return { requests: step.requests, partial: owesRest(state), violation: step.violation };
      },
      answer: (request) => runControl(session, request),
      done: (leave) => session.end(leave),
    },
    input,
  );
}

async function runControl(session: ControlSession, request: ControlRequest): Promise<Buffer> {
  const { link } = session;
  const command = controlCommand(request.number);
  if (command === undefined) return controlResult(CONTROL_RESULT.badOrdinal);
  try {
    await link.turn.wait(session);
    session.begin();
    return await command.run(session, request.body);
  } catch (error) {
    link.onDefect(error);
    return controlResult(CONTROL_RESULT.fail);
  }
}

/** Serves `protocol` on `socket`, which must be half-open capable. What the peer sends is read from `inputs`. */
export function serve<Request>(
  socket: Socket,
  link: GuestLink,
  protocol: Protocol<Request>,
  inputs: AsyncIterable<Buffer> = socket as AsyncIterable<Buffer>,
): Connection {
  let finishing = false;
  let busy = false;
  const deadline = new Deadline(link.limits.partialFrameTimeout, () => {
    link.onRejection('slow_command');
    socket.destroy();
  });
  const answerAll = async (requests: readonly Request[]): Promise<void> => {
    for (const request of requests) {
      busy = true;
      const response = await protocol.answer(request);
      await send(socket, response, link);
      busy = false;
      if (finishing || socket.destroyed) return;
    }
  };
  const run = async (): Promise<void> => {
    for await (const input of inputs) {
      const step = protocol.feed(input);
      // A response is sent before the clock of the next command starts.
      if (step.requests.length > 0) deadline.stop();
      await answerAll(step.requests);
      if (finishing || step.violation !== undefined || step.end === true) {
        if (step.violation !== undefined) link.onRejection('bad_header');
        break;
      }
      if (step.partial) deadline.start();
    }
  };
  const done = run()
    .catch((error: unknown) => {
      if (!isPeerGone(error)) link.onDefect(error);
    })
    .then(() => {
      deadline.stop();
      socket.destroySoon();
      return protocol.done?.(finishing);
    })
    .catch((error: unknown) => {
      link.onDefect(error);
    });
  return {
    finish: async (grace) => {
      finishing = true;
      if (!busy) socket.destroy();
      const timer = setTimeout(() => socket.destroy(), grace);
      await done;
      clearTimeout(timer);
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
function send(socket: Socket, response: Buffer, link: GuestLink): Promise<void> {
  if (socket.destroyed || !socket.writable) return Promise.resolve();
  return new Promise((resolve) => {
    const giveUp = setTimeout(() => {
      link.onRejection('unread_response');
      socket.destroy();
    }, link.limits.unreadResponseTimeout);
    socket.write(response, () => {
      clearTimeout(giveUp);
      resolve();
    });
  });
}

// EMSGSIZE: more descriptors came than any request has.
const GONE = new Set(['EMSGSIZE', 'ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED']);

function isPeerGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && GONE.has(String(error.code));
}
