// One connection of a peer: pieces in, responses out, one at a time, nothing read before the last response is on its way.
import { randomInt } from 'node:crypto';
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';
import { closeFd } from '../native/index.js';
import type { Channel } from './channel.js';
import type { GuestLink } from './guest-link.js';

/** What came of one piece of input. */
interface Step<Request> {
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
  /** Resolves when the request may be executed, or the connection is left. */
  ready?(request: Request): Promise<void>;
  /**
   * @param token what the TPM knows a command by, see {@link GuestTpm.answered}
   * @param onEffect to be called before anything of the request can outlive the process
   */
  answer(request: Request, token: number, onEffect: () => void): Promise<Buffer>;
  /** The answer to a request over which a daemon died; undefined if it can be executed again. */
  interrupted(request: Request, token: number): Buffer | undefined;
  /** What has to be known after the request, apart from the input, to go on: 32 bits. */
  noteAfter?(request: Request): number;
  done?(ending: Ending): Promise<void>;
  /** Takes descriptors that came, before the bytes beside them are fed; without it they are closed. */
  readonly takeDescriptors?: ((fds: readonly number[]) => void) | undefined;
}

/** A connection that is being served. */
export interface Connection {
  readonly open: boolean;
  readonly ended: Promise<Ending>;
  /** Resolves when the request that the peer has sent is being answered, if it has sent one; at the latest after `grace` milliseconds. */
  caughtUp(grace: number): Promise<void>;
  /** Resolves when what has come so far is answered, at the latest after `grace` milliseconds. */
  idle(grace: number): Promise<void>;
  /** Resolves when all that the peer has sent so far is answered, what nobody has read yet too, at the latest after `grace` milliseconds. */
  settled(grace: number): Promise<void>;
  /** Lets the request that runs end, sends its response and closes; at the latest after `grace` milliseconds. */
  finish(grace: number): Promise<void>;
  /** As {@link finish}, but the peer does not notice: somebody else has the descriptor and the exchange. */
  leave(grace: number): Promise<void>;
}

/** What a connection is served by. */
export type ConnectionRules = Pick<GuestLink, 'limits' | 'onRejection' | 'onDefect'>;

/** Serves `protocol` on `channel`, from where its exchange stands. */
export function serve<Request>(channel: Channel, link: ConnectionRules, protocol: Protocol<Request>): Connection {
  return new Server(channel, link, protocol);
}

let tokens = randomInt(0x1_0000_0000);

/** One that no other command had for a long time. */
function nextToken(): number {
  tokens = (tokens + 1) >>> 0 || 1;
  return tokens;
}

class Server<Request> implements Connection {
  readonly ended: Promise<Ending>;
  private ending: Ending | undefined;
  /** A request is being answered. */
  private busy = false;
  /** The last piece of input is being taken. */
  private taking: Promise<boolean> = Promise.resolve(true);
  private readonly deadline: Deadline;

  constructor(
    private readonly channel: Channel,
    private readonly link: ConnectionRules,
    private readonly protocol: Protocol<Request>,
  ) {
    this.deadline = new Deadline(link.limits.partialFrameTimeout, () => {
      link.onRejection('slow_command');
      channel.close();
    });
    this.ended = this.run();
  }

  get open(): boolean {
    return !this.channel.closed;
  }

  async caughtUp(grace: number): Promise<void> {
    const end = performance.now() + grace;
    do await turn();
    while (!this.busy && this.channel.hasInput && performance.now() < end);
  }

  async settled(grace: number): Promise<void> {
    const end = performance.now() + grace;
    do {
      await (this.busy ? this.idle(end - performance.now()) : turn());
    } while ((this.busy || this.channel.hasInput) && performance.now() < end);
  }

  async idle(grace: number): Promise<void> {
    const taken = this.taking.catch(() => undefined);
    await Promise.race([taken, delay(grace, undefined, { ref: false })]);
  }

  async finish(grace: number): Promise<void> {
    this.ending ??= 'finished';
    if (!this.busy) this.channel.close();
    const timer = setTimeout(() => {
      this.channel.close();
    }, grace);
    await this.ended;
    clearTimeout(timer);
  }

  async leave(grace: number): Promise<void> {
    this.ending ??= 'left';
    this.deadline.stop();
    if (this.busy) await Promise.race([this.ended, delay(grace, undefined, { ref: false })]);
    // The request that still runs is one that was interrupted, and may have its effect yet.
    if (this.busy && this.channel.exchange.phase === 'executing') this.channel.exchange.effect();
    this.channel.leave();
  }

  /** Never rejects. */
  private async run(): Promise<Ending> {
    try {
      await this.readAndAnswer();
    } catch (error) {
      if (!isPeerGone(error)) this.link.onDefect(error);
    }
    this.deadline.stop();
    this.ending ??= 'peer';
    const { ending } = this;
    try {
      if (ending === 'left') this.channel.leave();
      else this.channel.close();
      await this.protocol.done?.(ending);
    } catch (error) {
      this.link.onDefect(error);
    }
    return ending;
  }

  /** Until the stream ends, for whatever reason. */
  private async readAndAnswer(): Promise<void> {
    for (let input: Buffer | undefined = this.channel.exchange.input(); input !== undefined; input = await this.receive()) {
      if (input.length === 0) continue;
      this.taking = this.take(input);
      if (!(await this.taking)) return;
    }
  }

  /** Answers what `input` completes. False if nothing more is to be read. */
  private async take(input: Buffer): Promise<boolean> {
    const { requests, partial, violation, end = false } = this.protocol.feed(input);
    // A response is sent before the clock of the next command starts.
    if (requests.length > 0) this.deadline.stop();
    for (const request of requests) {
      await this.protocol.ready?.(request);
      if (this.isEnding() || this.channel.closed) break;
      this.busy = true;
      await this.answer(request);
      this.busy = false;
    }
    if (violation !== undefined) this.link.onRejection('bad_header');
    if (this.isEnding() || violation !== undefined || end) return false;
    if (partial) this.deadline.start();
    return true;
  }

  private isEnding(): boolean {
    return this.ending !== undefined;
  }

  /** From the phase on that the exchange is in: another daemon may have begun with the request. */
  private async answer(request: Request): Promise<void> {
    const { channel, link, protocol } = this;
    const { exchange } = channel;
    const { phase } = exchange;
    if (phase === 'idle') exchange.begin(protocol.sizeOf(request), nextToken());
    const { token } = exchange;
    if (phase !== 'answered') {
      const again = phase === 'idle' ? undefined : protocol.interrupted(request, token);
      const onEffect = (): void => {
        exchange.effect();
      };
      exchange.answer(again ?? (await protocol.answer(request, token, onEffect)));
    }
    await send(channel, link);
    exchange.done(protocol.noteAfter?.(request) ?? 0);
  }

  /** The next piece of input; undefined if there is none any more. Descriptors that came with it are the protocol's, or closed. */
  private async receive(): Promise<Buffer | undefined> {
    const { takeDescriptors } = this.protocol;
    const received = await this.channel.receive(takeDescriptors !== undefined);
    if (received === undefined) return undefined;
    if (takeDescriptors === undefined) received.fds.forEach(closeFd);
    else takeDescriptors(received.fds);
    return received.data;
  }
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
async function send(channel: Channel, link: ConnectionRules): Promise<void> {
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
