// One connection of a peer: pieces in, responses out, one at a time, nothing read before the last response is on its way.
import type { Socket } from 'node:net';
import { CONTROL_RESULT, controlCommand, controlResult } from './control-commands.js';
import { feedControl, noControl, owesRest, type ControlRequest } from './control-stream.js';
import { feedFrames, noFrame } from './frame.js';
import type { GuestLink } from './guest-link.js';

/** What came of one piece of input. */
interface Step<Request> {
  readonly requests: readonly Request[];
  /** The peer owes the rest of a request. */
  readonly partial: boolean;
  readonly violation?: string | undefined;
}

/** A protocol on a stream: cuts the input into requests and answers them. */
interface Protocol<Request> {
  feed(input: Buffer): Step<Request>;
  answer(request: Request): Promise<Buffer>;
}

/** A connection that is being served. */
export interface Connection {
  /** Lets the request that runs end, sends its response and closes; at the latest after `grace` milliseconds. */
  finish(grace: number): Promise<void>;
}

/** Serves TPM commands on `socket`, which must be half-open capable. */
export function serveData(socket: Socket, link: GuestLink): Connection {
  let state = noFrame;
  return serve(socket, link, {
    feed: (input) => {
      const step = feedFrames(state, input);
      state = step.state;
      return { requests: step.frames, partial: state.length > 0, violation: step.violation };
    },
    answer: (frame) => link.tpm.execute(frame, link.locality),
  });
}

/** Serves control requests on `socket`, which must be half-open capable. */
export function serveControl(socket: Socket, link: GuestLink): Connection {
  let state = noControl;
  return serve(socket, link, {
    feed: (input) => {
      const step = feedControl(state, input, controlCommand);
      state = step.state;
      return { requests: step.requests, partial: owesRest(state) };
    },
    answer: (request) => runControl(link, request),
  });
}

async function runControl(link: GuestLink, request: ControlRequest): Promise<Buffer> {
  const command = controlCommand(request.number);
  if (command === undefined) return controlResult(CONTROL_RESULT.badOrdinal);
  try {
    return await command.run(link, request.body);
  } catch (error) {
    link.onDefect(error);
    return controlResult(CONTROL_RESULT.fail);
  }
}

function serve<Request>(socket: Socket, link: GuestLink, protocol: Protocol<Request>): Connection {
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
    for await (const input of socket as AsyncIterable<Buffer>) {
      const step = protocol.feed(input);
      // A response is sent before the clock of the next command starts.
      if (step.requests.length > 0) deadline.stop();
      await answerAll(step.requests);
      if (finishing || step.violation !== undefined) {
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
    .finally(() => {
      deadline.stop();
      socket.destroySoon();
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

const GONE = new Set(['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED']);

function isPeerGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && GONE.has(String(error.code));
}
